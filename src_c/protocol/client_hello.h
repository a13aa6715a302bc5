/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_hello - finds the server name in the first bytes of a TLS client.
 *
 * A ClientHello may come in any number of reads and records. It is parsed once it is complete; bytes that cannot become
 * one are refused as soon as that shows. Later bytes are never looked at, so the result for the beginning of a stream
 * is the result for all of it. Unknown values (GREASE, later versions, other extensions) are skipped. Wrong lengths, an
 * extension or a name given twice, and an SSLv2 hello are refused.
 *
 * Owner:   any thread; pure.
 * Memory:  the caller's. The fragments of a ClientHello in several records are joined within `data`.
 * Holds:   no read beyond `len`; the work is linear in it.
 * Source:  RFC 8446 §4.1.2 and §5.1, RFC 5246 §7.4.1.2, RFC 6066 §3, RFC 8701 (GREASE).
 */
#ifndef LB_CLIENT_HELLO_H
#define LB_CLIENT_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "protocol/server_name.h"

/* The longest ClientHello that is read: one record. Those with post-quantum keys have about 1.8 KB. */
enum { LB_CLIENT_HELLO_MAX = 16384 };

enum lb_hello {
    LB_HELLO_MORE,     /* not complete yet */
    LB_HELLO_NONE,     /* not a ClientHello, or one that contradicts itself or is too long */
    LB_HELLO_NAMELESS, /* without a server name, or with one that is not a host name */
    LB_HELLO_NAMED,
};

/* Parse `data`, all bytes of the client so far. `name` is meaningful for LB_HELLO_NAMED. */
LB_MUST_CHECK enum lb_hello lb_client_hello_parse(uint8_t *data, size_t len, struct lb_server_name *name);

#endif
