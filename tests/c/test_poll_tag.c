/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <sys/eventfd.h>

#include "base/bounds.h"
#include "kernel/poll_tag.h"

TEST(a_tag_comes_back_as_it_went_in) {
    static const uint32_t numbers[] = {0, 1, LB_SESSIONS_PER_WORKER_MAX - 1, (1u << 22) - 1};
    static const uint8_t serials[] = {0, 1, 127, UINT8_MAX};
    static const uint32_t generations[] = {0, 1, (1u << LB_SESSION_GENERATION_BITS) - 1, UINT32_MAX};

    for (int kind = LB_POLL_CLIENT; kind <= LB_POLL_WAKE; kind++) {
        for (int i = 0; i < 16; i++) {
            struct lb_poll_tag tag = {(enum lb_poll_kind)kind, numbers[i % 4], generations[i / 4],
                                      serials[(i + kind) % 4]},
                               same;
            same = lb_poll_unpack(lb_poll_pack(tag));
            CHECK_EQ(same.kind, tag.kind);
            CHECK_EQ(same.number, tag.number);
            CHECK_EQ(same.generation, tag.generation);
            CHECK_EQ(same.serial, tag.serial);
        }
    }
}

TEST(epoll_reports_the_tag_until_the_descriptor_is_removed) {
    struct lb_poll_tag tag = {LB_POLL_SERVER, 77, 5, 3};
    struct epoll_event event;
    int epoll = CHECK_SYS(epoll_create1(EPOLL_CLOEXEC)), fd = CHECK_SYS(eventfd(1, EFD_CLOEXEC));

    CHECK_OK(lb_poll_add(epoll, fd, EPOLLIN, tag));
    CHECK_EQ(lb_poll_add(epoll, fd, EPOLLIN, tag), -EEXIST);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
    CHECK_EQ(event.data.u64, lb_poll_pack(tag));
    lb_poll_remove(epoll, fd);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    (void)close(fd);
    (void)close(epoll);
}

TEST_MAIN()
