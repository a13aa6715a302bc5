/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_header - the PROXY protocol, versions 1 and 2, in and out.
 *
 * Strict: what the specification leaves open is decided towards refusing, and nothing is ever guessed. A header may
 * come in any number of pieces; the bytes behind it are never looked at.
 *
 * Owner:   any thread; pure.
 * Memory:  the caller's.
 * Holds:   no read beyond `len`; the work is linear in it.
 * Errors:  -EPROTO when the bytes are no header and can't become one.
 * Source:  "The PROXY protocol", Willy Tarreau, HAProxy Technologies; CRC32c: RFC 4960 appendix B.
 */
#ifndef LB_PROXY_HEADER_H
#define LB_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "l4lb.h"

enum {
    LB_PROXY_HEADER_MAX = 4096, /* longest header that is accepted */
    LB_PROXY_V1_MAX = 107,      /* with CR LF; from the specification */
    LB_PROXY_BUILD_MAX = 4160,  /* longest that is built: addresses of IPv6, and extensions of a header of IPv4 */
};

struct lb_proxy_header {
    bool local;                               /* the sender speaks for itself, for example a health check */
    struct l4lb_endpoint source, destination; /* family 0: use those of the connection */
    const uint8_t *tlvs;                      /* extensions of version 2, in the data; sound */
    size_t tlvs_len;
};

/* Extensions to be passed on: all but padding and the checksum, which is made anew where there was one. */
struct lb_proxy_tlvs {
    uint16_t len;
    bool has_checksum;
    uint8_t data[];
};

/* The length of the header that `data` starts with; 0 when more of it is needed. */
LB_MUST_CHECK int lb_proxy_parse(const uint8_t *data, size_t len, struct lb_proxy_header *out);

/* The extensions of a header that was parsed, to be freed by the caller. *out is NULL when it has none. -ENOMEM. */
LB_MUST_CHECK int lb_proxy_tlvs_new(const struct lb_proxy_header *header, struct lb_proxy_tlvs **out);

/* Write a header; returns its length. Endpoints that are not both IPv4 or both IPv6 are shown as unknown. Only version
 * 2 has room for `tlvs`, which may be NULL. */
size_t lb_proxy_build(enum l4lb_send_proxy version, const struct l4lb_endpoint *source,
                      const struct l4lb_endpoint *destination, const struct lb_proxy_tlvs *tlvs,
                      uint8_t out[LB_PROXY_BUILD_MAX]);

#endif
