/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "kernel/pipe.h"

enum { BYTES = 65536 };

TEST(a_pipe_that_comes_back_empty_is_lent_again) {
    struct l4lb_worker_stats stats = {0};
    struct lb_pipe_pool pool;
    struct lb_pipe *pipe, *again;

    lb_pipe_pool_init(&pool, 2, BYTES, &stats);
    pipe = again = lb_pipe_take(&pool);
    CHECK(pipe != NULL);
    CHECK_EQ(stats.pipes, 1);
    CHECK_EQ(stats.pipes_in_use, 1);
    lb_pipe_give(&pool, &pipe);
    CHECK(pipe == NULL);
    CHECK_EQ(stats.pipes, 1);
    CHECK_EQ(stats.pipes_in_use, 0);
    pipe = lb_pipe_take(&pool);
    CHECK(pipe == again);
    lb_pipe_give(&pool, &pipe);
    lb_pipe_pool_fini(&pool);
    CHECK_EQ(stats.pipes, 0);
}

TEST(a_pipe_that_holds_bytes_is_closed_and_never_lent_again) {
    struct l4lb_worker_stats stats = {0};
    struct lb_pipe_pool pool;
    struct lb_pipe *pipe;
    char left;

    lb_pipe_pool_init(&pool, 1, BYTES, &stats);
    pipe = lb_pipe_take(&pool);
    CHECK(pipe != NULL);
    CHECK_EQ(CHECK_SYS(write(pipe->write_fd, "secret", 6)), 6);
    pipe->held = 6;
    lb_pipe_give(&pool, &pipe);
    CHECK_EQ(stats.pipes, 0);
    pipe = lb_pipe_take(&pool);
    CHECK(pipe != NULL);
    CHECK(read(pipe->read_fd, &left, 1) == -1 && errno == EAGAIN);
    lb_pipe_give(&pool, &pipe);
    lb_pipe_pool_fini(&pool);
}

TEST(no_more_pipes_than_the_bound) {
    struct l4lb_worker_stats stats = {0};
    struct lb_pipe_pool pool;
    struct lb_pipe *pipes[3];

    lb_pipe_pool_init(&pool, 3, BYTES, &stats);
    for (int i = 0; i < 3; i++) {
        pipes[i] = lb_pipe_take(&pool);
        CHECK(pipes[i] != NULL);
    }
    CHECK(lb_pipe_take(&pool) == NULL);
    CHECK_EQ(stats.pipes_in_use, 3);
    for (int i = 0; i < 3; i++)
        lb_pipe_give(&pool, &pipes[i]);
    lb_pipe_pool_fini(&pool);
}

TEST(pipes_do_not_block_and_are_not_inherited) {
    struct l4lb_worker_stats stats = {0};
    struct lb_pipe_pool pool;
    struct lb_pipe *pipe;

    lb_pipe_pool_init(&pool, 1, BYTES, &stats);
    pipe = lb_pipe_take(&pool);
    CHECK(pipe != NULL);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? pipe->read_fd : pipe->write_fd;
        CHECK((CHECK_SYS(fcntl(fd, F_GETFL)) & O_NONBLOCK) != 0);
        CHECK((CHECK_SYS(fcntl(fd, F_GETFD)) & FD_CLOEXEC) != 0);
    }
    lb_pipe_give(&pool, &pipe);
    lb_pipe_pool_fini(&pool);
}

TEST(without_descriptors_there_is_no_pipe_and_nothing_is_counted) {
    struct l4lb_worker_stats stats = {0};
    struct rlimit before, none;
    struct lb_pipe_pool pool;
    struct lb_pipe *pipe;

    lb_pipe_pool_init(&pool, 1, BYTES, &stats);
    CHECK_SYS(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = 0;
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &none));
    pipe = lb_pipe_take(&pool);
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &before));
    CHECK(pipe == NULL);
    CHECK_EQ(stats.pipes, 0);
    CHECK_EQ(stats.pipes_in_use, 0);
    lb_pipe_pool_fini(&pool);
}

TEST_MAIN()
