/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_servers - HTTP/1 servers for a storm: they check what they get, and do what servers on a network do.
 *
 * A server checks that the requests on one connection are of one client, whole and in order, and that no more requests
 * are in its hands at once than it allows. A request is in its hands from its last byte to the last byte of its
 * response; a connection that the other side has closed does not count.
 *
 * Owner:   the test that starts them stops them. They are a thread of their own; the functions are for any other.
 * Errors:  what must not be ends the program.
 */
#ifndef EXCHANGE_SERVERS_H
#define EXCHANGE_SERVERS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { EXCHANGE_SERVERS_MAX = 32 };

enum exchange_kind {
    EXCHANGE_KEEPS,    /* every connection, and responds to every request */
    EXCHANGE_TRICKLES, /* the same in small pieces */
    EXCHANGE_CLOSES,   /* between requests, by a FIN or a reset, announced or not */
    EXCHANGE_BREAKS,   /* at once after it accepted, or in the middle of a response */
    EXCHANGE_HURRIES,  /* responds while the client still uploads, and closes */
    EXCHANGE_STRAYS,   /* sends what no request asked for, and closes */
    EXCHANGE_IS_SILENT,
    EXCHANGE_REFUSES,
    EXCHANGE_CONFUSES, /* as the two before, and goes on */
};

struct exchange_server {
    enum exchange_kind kind;
    bool takes_proxy; /* a PROXY header of version 2 comes first */
};

struct exchange_servers;
struct exchange_servers *exchange_servers_start(const char *storm, uint64_t seed, const struct exchange_server *servers,
                                                uint32_t n);
void exchange_servers_stop(struct exchange_servers *all);
const struct sockaddr_in *exchange_servers_address(const struct exchange_servers *all, uint32_t at);
/* From now on it may have so many requests at once. */
void exchange_servers_allow(struct exchange_servers *all, uint32_t at, uint32_t n);
/* Whole requests that it got. */
uint64_t exchange_servers_received(const struct exchange_servers *all, uint32_t at);
/* The most that it had at once. */
uint32_t exchange_servers_most(const struct exchange_servers *all, uint32_t at);

#endif
