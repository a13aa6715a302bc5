/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_name - the server name that a TLS client asks for, in the one form in which names are compared and hashed.
 *
 * A host name in ASCII: labels of letters, digits, - and _ with dots between them, in lower case, without the dot of
 * the root. International names come as A-labels in the handshake. An IP address is not a name.
 *
 * Owner:   any thread; pure.
 * Source:  RFC 6066 §3 (HostName), RFC 1035 §2.3 (labels of 63 bytes, any case). The underscore is in use, whatever RFC
 *          952 says.
 */
#ifndef LB_SERVER_NAME_H
#define LB_SERVER_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

enum { LB_SERVER_NAME_MAX = 255, LB_LABEL_MAX = 63 };

struct lb_server_name {
    uint32_t len;
    char text[LB_SERVER_NAME_MAX]; /* without a NUL */
};

/* False if the text is not a host name. */
LB_MUST_CHECK bool lb_server_name_read(const void *text, size_t len, struct lb_server_name *out);

/* The same in every process; never 0, which can stand for "no name". */
uint64_t lb_server_name_hash(const struct lb_server_name *name);

#endif
