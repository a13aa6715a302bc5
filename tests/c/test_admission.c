/* SPDX-License-Identifier: Apache-2.0 */
#include "lone.h"

#include "config/admission.h"

static struct l4lb_endpoint ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    return (struct l4lb_endpoint){.family = AF_INET, .address = {a, b, c, d}};
}

static struct lb_lpm *list_of(uint8_t first, uint8_t length) {
    const struct l4lb_prefix prefix = {.address = {[10] = 0xff, 0xff, first}, .length = (uint8_t)(96 + length)};
    struct lb_lpm *list;

    CHECK_OK(lb_lpm_new(&prefix, NULL, 1, &list));
    return list;
}

TEST(capacity_is_reserved_on_the_process_and_on_the_listener_or_on_neither) {
    static struct lone lone;
    const struct lb_listener *listener;
    struct lb_ticket first, second, third;

    lone_init(&lone);
    lone.runtime.sessions_max = 3;
    lone.listener.connections_max = 2;
    lone_publish(&lone);
    listener = &lone.worker.snapshot->listeners[0];
    CHECK(lb_admission_reserve(&first, &lone.runtime, listener));
    CHECK(lb_admission_reserve(&second, &lone.runtime, listener));
    CHECK(!lb_admission_reserve(&third, &lone.runtime, listener));
    CHECK(!third.is_held);
    CHECK_EQ(atomic_load(&lone.runtime.sessions), 2);
    CHECK_EQ(atomic_load(&listener->shared->connections), 2);
    lone.runtime.sessions_max = 2;
    lb_admission_release(&first, &lone.runtime);
    CHECK(lb_admission_reserve(&first, &lone.runtime, listener));
    lb_admission_release(&first, &lone.runtime);
    lone.runtime.sessions_max = 1;
    CHECK(!lb_admission_reserve(&first, &lone.runtime, listener));
    CHECK_EQ(atomic_load(&listener->shared->connections), 1);
    lb_admission_release(&second, &lone.runtime);
    lone_fini(&lone);
}

static const struct lb_ticket ticket = {.is_held = true};

TEST(a_list_to_deny_wins_over_one_to_allow) {
    struct lb_listener listener = {0};
    struct l4lb_endpoint in = ipv4(10, 0, 0, 1), out = ipv4(11, 0, 0, 1), local = {.family = AF_UNIX};

    CHECK(lb_admission_identify(&ticket, &listener, &in));
    listener.allow = list_of(10, 8);
    CHECK(lb_admission_identify(&ticket, &listener, &in));
    CHECK(!lb_admission_identify(&ticket, &listener, &out));
    CHECK(lb_admission_identify(&ticket, &listener, &local));
    listener.deny = list_of(10, 8);
    CHECK(!lb_admission_identify(&ticket, &listener, &in));
    CHECK(!lb_admission_identify(&ticket, &listener, &out));
    lb_lpm_free(listener.allow);
    lb_lpm_free(listener.deny);
}

TEST(headers_are_believed_of_listed_peers_and_of_unix_sockets) {
    struct lb_listener listener = {0};
    struct l4lb_endpoint in = ipv4(10, 0, 0, 1), out = ipv4(11, 0, 0, 1), local = {.family = AF_UNIX};

    CHECK(!lb_admission_trusts(&listener, &in));
    CHECK(lb_admission_trusts(&listener, &local));
    listener.proxy_from = list_of(10, 8);
    CHECK(lb_admission_trusts(&listener, &in));
    CHECK(!lb_admission_trusts(&listener, &out));
    lb_lpm_free(listener.proxy_from);
}

TEST_MAIN()
