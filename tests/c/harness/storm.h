/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storm - backends and clients that do what peers on a network do, at random, on both sides of a balancer.
 *
 * Clients ask in frames. The head of a frame says how long the question is, how long the answer should be, and the
 * number that both are made from, so either side knows every byte that it may get. On a connection that somebody broke
 * off, what came until then was right; on a calm one everything comes, and then the end.
 *
 * What is done is drawn from a seed and the same in every run. When it is done is up to the threads.
 *
 * Owner:   who starts a side stops it. A side is a thread of its own; its functions may be called by any other.
 * Memory:  a side is freed when it is stopped, and its sockets are closed.
 * Errors:  what must not be ends the program, and says where and in which storm.
 */
#ifndef STORM_H
#define STORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct storm_address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* A non-blocking socket that listens on loopback, or, if the family is AF_UNIX, at an address nobody else has. An
 * address with a port is listened at once more, as workers do. */
int storm_listen(struct storm_address *address, sa_family_t family, int backlog);

/* Entries of this directory of /proc/self. */
int storm_count(const char *directory);

/* Bytes of address space that this process has mapped. */
uint64_t storm_address_space(void);

/* The seeds to run and for how long each: STORM_SEEDS ("7" or "1-100") and STORM_SECONDS, or what the test wants. */
struct storm_runs {
    uint64_t first;
    uint64_t last;
    uint64_t ms;
};
struct storm_runs storm_runs(uint64_t first, uint64_t last, uint64_t ms);

/* ---- backends ---------------------------------------------------------------------------------------------------- */

enum storm_behaviour {
    STORM_ANSWERS,
    STORM_ANSWERS_UNIX,
    STORM_TRICKLES,     /* answers in small pieces */
    STORM_BREAKS,       /* resets at any moment: the first, or in the middle of an answer */
    STORM_FINISHES,     /* one answer, then its FIN or all of the close */
    STORM_IS_SILENT,    /* reads, and answers nothing */
    STORM_IS_STUCK,     /* never reads */
    STORM_REFUSES,      /* no listener */
    STORM_REFUSES_UNIX, /* no such socket */
    STORM_IS_FULL,      /* a backlog without room: nothing comes back */
    STORM_IS_FULL_UNIX,
    STORM_BEHAVIOURS
};

struct storm_backends;
struct storm_backends *storm_backends_start(const char *storm, uint64_t seed);
void storm_backends_stop(struct storm_backends *backends);
const struct storm_address *storm_backend(const struct storm_backends *backends, enum storm_behaviour behaviour);

/* ---- clients ----------------------------------------------------------------------------------------------------- */

enum { STORM_DOORS = 16 };

/* Where clients go. */
struct storm_door {
    bool open;
    bool calm;  /* only clients who ask, wait and finish; what they don't get is a failure */
    bool proxy; /* a PROXY header is expected */
    struct storm_address address;
};

enum storm_pace {
    STORM_COMES,
    STORM_HOLDS,  /* all pause */
    STORM_LEAVES, /* no new clients; calm clients go on to their end; the others do nothing more */
    STORM_IS_GONE /* all sockets are closed */
};

struct storm_tally {
    uint64_t begun;
    uint64_t complete;      /* everything came, and the end */
    uint64_t calm;          /* of them, calm ones */
    uint64_t calm_asked;    /* bytes calm ones sent */
    uint64_t calm_answered; /* and got */
};

struct storm_clients;
struct storm_clients *storm_clients_start(const char *storm, uint64_t seed, uint32_t at_once);
struct storm_tally storm_clients_stop(struct storm_clients *clients);
void storm_clients_door(struct storm_clients *clients, unsigned door, const struct storm_door *what);
/* Returns when it is so; STORM_LEAVES when the calm ones have left. */
void storm_clients_pace(struct storm_clients *clients, enum storm_pace pace);

/* One calm client that asks once, whom we wait for. */
void storm_ask_once(const struct storm_address *address);

#endif
