/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_header - parses and builds headers of the PROXY protocol, versions 1 and 2.
 *
 * Strict: where the specification leaves room, the header is refused, and nothing is ever guessed. A header may come in
 * any number of reads; the bytes behind it are never looked at.
 *
 * Owner:   any thread; pure.
 * Memory:  the caller's.
 * Holds:   no read beyond `len`; the work is linear in it.
 * Errors:  -EPROTO if the bytes are not a header and cannot become one.
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
    LB_PROXY_HEADER_MAX = 4096, /* longest header accepted */
    LB_PROXY_V1_MAX = 107,      /* with CR LF; from the specification */
    LB_PROXY_BUILD_MAX = 4160,  /* longest header built: IPv6 addresses, and the extensions of a header for IPv4 */
};

struct lb_proxy_header {
    bool local;                               /* the sender connects for itself, for example for a health check */
    struct l4lb_endpoint source, destination; /* family 0: use those of the connection */
    const uint8_t *tlvs;                      /* extensions of version 2, within the data; valid */
    size_t tlvs_len;
};

/* Extensions to pass on: all but padding and the checksum, which is computed anew if there was one. */
struct lb_proxy_tlvs {
    uint16_t len;
    bool has_checksum;
    uint8_t data[];
};

/* The length of the header that `data` starts with; 0 if it is not complete. */
LB_MUST_CHECK int lb_proxy_parse(const uint8_t *data, size_t len, struct lb_proxy_header *out);

/* Copy the extensions of a parsed header; the caller frees them. *out is NULL if there are none. -ENOMEM. */
LB_MUST_CHECK int lb_proxy_tlvs_new(const struct lb_proxy_header *header, struct lb_proxy_tlvs **out);

/* Write a header and return its length. If one endpoint is IPv4 and the other IPv6, the former is mapped; unless both
 * have an address, they are written as unknown. Only version 2 has room for `tlvs`, which may be NULL. */
size_t lb_proxy_build(enum l4lb_send_proxy version, const struct l4lb_endpoint *source,
                      const struct l4lb_endpoint *destination, const struct lb_proxy_tlvs *tlvs,
                      uint8_t out[LB_PROXY_BUILD_MAX]);

#endif
