/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int lb_sources_new(const struct l4lb_source *sources, size_t n, struct lb_sources **out) {
    struct lb_sources *made;

    *out = NULL;
    if (n > L4LB_SOURCES_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        sa_family_t family = sources[i].address->sa_family;
        if ((family != AF_INET && family != AF_INET6) || sources[i].address_len > sizeof(struct sockaddr_storage))
            return -EINVAL;
    }
    if (n == 0)
        return 0;
    made = calloc(1, sizeof *made + n * sizeof made->all[0]);
    if (made == NULL)
        return -ENOMEM;
    for (; made->n < n; made->n++) {
        struct lb_source *source = &made->all[made->n];
        source->address_len = sources[made->n].address_len;
        memcpy(&source->address, sources[made->n].address, source->address_len);
    }
    *out = made;
    return 0;
}

void lb_sources_free(struct lb_sources *sources) { free(sources); }

int lb_sources_connect(const struct lb_sources *sources, uint32_t cursor, const struct sockaddr *address,
                       socklen_t address_len, const struct l4lb_tcp *tcp) {
    bool tried = false;

    for (uint32_t i = 0; sources != NULL && i < sources->n; i++) {
        const struct lb_source *source = &sources->all[(cursor + i) % sources->n];
        int result;
        if (source->address.ss_family != address->sa_family)
            continue;
        tried = true;
        result = lb_sock_connect(address, address_len, source, tcp);
        if (result != -EADDRNOTAVAIL)
            return result;
    }
    return tried ? -EADDRNOTAVAIL : lb_sock_connect(address, address_len, NULL, tcp);
}
