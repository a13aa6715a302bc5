/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list - an intrusive doubly linked list. A node that is on no list points to itself.
 *
 * Owner:   the owner of the head.
 */
#ifndef LB_LIST_H
#define LB_LIST_H

#include <stdbool.h>

struct lb_list {
    struct lb_list *next;
    struct lb_list *prev;
};

static inline void lb_list_init(struct lb_list *node) { node->next = node->prev = node; }

/* For a head: no node is on the list. For a node: it is on no list. */
static inline bool lb_list_empty(const struct lb_list *node) { return node->next == node; }

static inline void lb_list_remove(struct lb_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    lb_list_init(node);
}

/* Append the node, after taking it off the list it is on. */
static inline void lb_list_append(struct lb_list *head, struct lb_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

#endif
