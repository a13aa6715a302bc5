/* SPDX-License-Identifier: Apache-2.0 */
#include "config/routes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* A suffix is kept with the dot before it, which no full name begins with. */
struct entry {
    uint64_t hash;
    uint32_t pool;
    uint32_t len;     /* 0 = free */
    const char *text; /* behind the entries */
};

struct lb_routes {
    size_t mask; /* number of entries - 1; that number is a power of two */
    struct entry entries[];
};

/* The entry of this name, or the free one where it belongs. */
static size_t index_of(const struct lb_routes *routes, uint64_t hash, const char *text, size_t len) {
    size_t at = hash & routes->mask;

    while (routes->entries[at].len > 0) {
        const struct entry *entry = &routes->entries[at];
        if (entry->hash == hash && entry->len == len && memcmp(entry->text, text, len) == 0)
            break;
        at = (at + 1) & routes->mask;
    }
    return at;
}

/* Add the route, and copy its name to `text`. Returns the length of the name. */
static int add(struct lb_routes *routes, const struct l4lb_route *route, char *text) {
    bool below = strncmp(route->name, "*.", 2) == 0;
    const char *rest = below ? route->name + 2 : route->name;
    struct lb_server_name name;
    struct entry *entry;
    uint64_t hash;

    if (route->pool > INT32_MAX || !lb_server_name_read(rest, strlen(rest), &name))
        return -EINVAL;
    text[0] = '.';
    memcpy(text + below, name.text, name.len);
    name.len += below;
    hash = lb_hash_bytes(text, name.len, 0);
    entry = &routes->entries[index_of(routes, hash, text, name.len)];
    if (entry->len > 0)
        return -EINVAL;
    *entry = (struct entry){.hash = hash, .pool = route->pool, .len = name.len, .text = text};
    return (int)name.len;
}

int lb_routes_new(const struct l4lb_route *routes, size_t n, struct lb_routes **out) {
    size_t n_entries = 2, room = 0;
    struct lb_routes *made;
    char *text;

    if (n > L4LB_ROUTES_MAX)
        return -EINVAL;
    while (n_entries < 2 * n)
        n_entries *= 2;
    for (size_t i = 0; i < n; i++)
        room += strlen(routes[i].name);
    made = calloc(1, sizeof *made + n_entries * sizeof made->entries[0] + room);
    if (made == NULL)
        return -ENOMEM;
    made->mask = n_entries - 1;
    text = (char *)&made->entries[n_entries];
    for (size_t i = 0; i < n; i++) {
        int len = add(made, &routes[i], text);
        if (len < 0) {
            free(made);
            return len;
        }
        text += len;
    }
    *out = made;
    return 0;
}

void lb_routes_free(struct lb_routes *routes) { free(routes); }

static int find(const struct lb_routes *routes, const char *text, size_t len) {
    const struct entry *entry = &routes->entries[index_of(routes, lb_hash_bytes(text, len, 0), text, len)];
    return entry->len > 0 ? (int)entry->pool : -ENOENT;
}

int lb_routes_find(const struct lb_routes *routes, const struct lb_server_name *name) {
    int pool = find(routes, name->text, name->len);

    for (size_t i = 0; i < name->len && pool < 0; i++) {
        if (name->text[i] == '.')
            pool = find(routes, name->text + i, name->len - i);
    }
    return pool;
}
