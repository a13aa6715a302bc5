/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_hello - the server name in the first bytes of a TLS client.
 *
 * A ClientHello may come in any number of pieces and of records. It is judged as a whole, once it is whole; what can't
 * become one is told from its first bytes. What follows it is never looked at, so the answer for the beginning of a
 * stream is the answer for all of it. Values that nobody knows yet (GREASE, later versions, other extensions) are
 * passed over; lengths that lie, an extension or a name given twice, and an SSLv2 hello are no ClientHello.
 *
 * Owner:   any thread; pure.
 * Memory:  the caller's. The pieces of a ClientHello in several records are pushed together in `data`.
 * Holds:   no read beyond `len`; the work is linear in it.
 * Source:  RFC 8446 §4.1.2 and §5.1, RFC 5246 §7.4.1.2, RFC 6066 §3, RFC 8701 (GREASE).
 */
#ifndef LB_CLIENT_HELLO_H
#define LB_CLIENT_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "protocol/server_name.h"

/* The longest that is read: one record's worth. With keys of post-quantum algorithms they have about 1.8 KB. */
enum { LB_CLIENT_HELLO_MAX = 16384 };

enum lb_hello {
    LB_HELLO_MORE,     /* not whole yet */
    LB_HELLO_NONE,     /* this is no ClientHello, or one that contradicts itself or is too long */
    LB_HELLO_NAMELESS, /* it has no server name, or one that is no host name */
    LB_HELLO_NAMED,
};

/* What `data`, all that came so far, begins with. `name` is meaningful for LB_HELLO_NAMED. */
LB_MUST_CHECK enum lb_hello lb_client_hello_parse(uint8_t *data, size_t len, struct lb_server_name *name);

#endif
