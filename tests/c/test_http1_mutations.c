/* SPDX-License-Identifier: Apache-2.0 */
/* The inputs of the fuzzer with damage: what the reader reports does not depend on how the bytes are split. */
#include "check.h"

#include <dirent.h>
#include <errno.h>

#include "http1_splits.h"

enum { ROOM = 4096, INPUTS_MAX = 256, ROUNDS = 40000, PIECE_MAX = 40 };

struct input {
    uint8_t data[ROOM];
    size_t len;
};

static struct input inputs[INPUTS_MAX];
static size_t n_inputs;

static void load(const char *name) {
    struct input *input = &inputs[n_inputs++];
    char path[300];
    FILE *file;

    CHECK(n_inputs <= INPUTS_MAX);
    (void)snprintf(path, sizeof path, "fuzz/http1/%s", name);
    file = fopen(path, "rb");
    CHECK(file != NULL);
    input->len = fread(input->data, 1, ROOM, file);
    CHECK(input->len > 0 && input->len < ROOM);
    (void)fclose(file);
}

static void load_all(void) {
    struct dirent **names;
    int n = scandir("fuzz/http1", &names, NULL, alphasort);

    if (n < 0)
        (void)fprintf(stderr, "fuzz/http1: %s; run this in tests/c\n", strerror(errno));
    CHECK(n > 2);
    n_inputs = 0;
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.')
            load(names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

/* Put `n` bytes in the place of `removed`, as far as there is room. */
static void replace(struct input *input, size_t at, size_t removed, const void *bytes, size_t n) {
    if (input->len - removed + n > ROOM)
        return;
    memmove(input->data + at + n, input->data + at + removed, input->len - at - removed);
    memcpy(input->data + at, bytes, n);
    input->len += n - removed;
}

static void replace_by_telling_text(struct check_random *random, struct input *input, size_t at, size_t removed) {
    static const char *const texts[] = {
        "\r\n",
        "\r",
        "\n",
        " ",
        "\t",
        ",",
        ":",
        ";",
        "0",
        "9",
        "f",
        "chunked",
        "close",
        "\xff",
        "\x7f",
        "HTTP/1.0",
        "keep-alive",
        "\r\n\r\n",
        "HEAD",
        "NTLM",
        "Connection:",
        " 100 ",
        " 204 ",
        "0\r\n\r\n",
        "Upgrade:",
        "7fffffffff",
        "GET / ",
        "+",
        "\r\nContent-Length: 3",
        "\r\nTransfer-Encoding: chunked",
    };
    const char *text = texts[check_random_below(random, sizeof texts / sizeof texts[0])];

    replace(input, at, removed, text, strlen(text));
}

static void mutate(struct check_random *random, struct input *input) {
    size_t at = check_random_below(random, (uint32_t)input->len);
    size_t n = LB_MIN(input->len - at, check_random_below(random, PIECE_MAX));
    const struct input *other = &inputs[check_random_below(random, (uint32_t)n_inputs)];
    size_t from = check_random_below(random, (uint32_t)other->len);
    uint8_t byte = (uint8_t)check_random_next(random);

    switch (check_random_below(random, 6)) {
    case 0:
        replace(input, at, 1, &byte, 1);
        break;
    case 1:
        replace(input, at, LB_MIN(n, input->len - 1), "", 0);
        break;
    case 2:
        replace(input, at, 0, other->data + from, LB_MIN(other->len - from, (size_t)PIECE_MAX));
        break;
    case 3:
        replace(input, at, input->len - at, other->data + from, other->len - from);
        break;
    default:
        replace_by_telling_text(random, input, at, check_random_below(random, 2));
    }
}

TEST(the_inputs_are_read_alike_however_they_are_split) {
    load_all();
    for (size_t i = 0; i < n_inputs; i++)
        http1_check_splits(inputs[i].data, inputs[i].len);
}

TEST(mutated_inputs_are_read_alike_however_they_are_split) {
    struct check_random random = {12};

    load_all();
    for (int round = 0; round < ROUNDS; round++) {
        struct input input = inputs[check_random_below(&random, (uint32_t)n_inputs)];
        for (uint32_t n = 1 + check_random_below(&random, 4); n > 0; n--)
            mutate(&random, &input);
        http1_check_splits(input.data, input.len);
    }
}

TEST_MAIN()
