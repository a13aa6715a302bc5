/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "kernel/buffer.h"

TEST(a_buffer_holds_a_copy) {
    struct lb_buffer_pool pool = {0};
    uint8_t data[] = "bytes";
    struct lb_buffer *buffer = lb_buffer_take(&pool, data, sizeof data);

    CHECK(buffer != NULL);
    memset(data, 0, sizeof data);
    CHECK_EQ(buffer->start, 0);
    CHECK_EQ(buffer->end, sizeof data);
    CHECK(memcmp(buffer->data, "bytes", sizeof data) == 0);
    lb_buffer_give(&pool, &buffer);
    CHECK(buffer == NULL);
    lb_buffer_pool_fini(&pool);
}

TEST(the_largest_read_fits) {
    static uint8_t data[LB_COPY_BYTES];
    struct lb_buffer_pool pool = {0};
    struct lb_buffer *buffer;

    memset(data, 7, sizeof data);
    buffer = lb_buffer_take(&pool, data, sizeof data);
    CHECK(buffer != NULL);
    CHECK_EQ(buffer->end, LB_COPY_BYTES);
    CHECK_EQ(buffer->data[LB_COPY_BYTES - 1], 7);
    lb_buffer_give(&pool, &buffer);
    lb_buffer_pool_fini(&pool);
}

TEST(a_buffer_that_comes_back_is_lent_again_and_starts_anew) {
    struct lb_buffer_pool pool = {0};
    struct lb_buffer *first = lb_buffer_take(&pool, (const uint8_t *)"first", 5), *before = first, *second;

    CHECK(first != NULL);
    first->start = 5;
    lb_buffer_give(&pool, &first);
    second = lb_buffer_take(&pool, (const uint8_t *)"2nd", 3);
    CHECK(second == before);
    CHECK_EQ(second->start, 0);
    CHECK_EQ(second->end, 3);
    CHECK_EQ(pool.n_free, 0);
    lb_buffer_give(&pool, &second);
    lb_buffer_pool_fini(&pool);
}

TEST(only_a_few_free_buffers_are_kept) {
    struct lb_buffer *buffers[2 * LB_BUFFERS_KEPT];
    struct lb_buffer_pool pool = {0};

    for (int i = 0; i < 2 * LB_BUFFERS_KEPT; i++) {
        buffers[i] = lb_buffer_take(&pool, (const uint8_t *)"x", 1);
        CHECK(buffers[i] != NULL);
    }
    for (int i = 0; i < 2 * LB_BUFFERS_KEPT; i++)
        lb_buffer_give(&pool, &buffers[i]);
    CHECK_EQ(pool.n_free, LB_BUFFERS_KEPT);
    lb_buffer_pool_fini(&pool);
    CHECK_EQ(pool.n_free, 0);
}

TEST_MAIN()
