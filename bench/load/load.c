/* SPDX-License-Identifier: Apache-2.0 */
/* load - the command line of the load generator, and its result as one JSON object on standard output. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "protocol.h"
#include "server.h"

static const char USAGE[] = "usage: load serve ADDRESS\n"
                            "       load connect|exchange|stream|bulk|idle|http|http-stream ADDRESS [option...]\n"
                            "\n"
                            "ADDRESS is 127.0.0.1:8000, or 127.0.1.1:8000+16 for 16 consecutive addresses.\n"
                            "\n"
                            "  -c, --connections N   at the same time (64)\n"
                            "  -s, --seconds S       how long (2)\n"
                            "  -n, --total N         connect: stop after so many, if --seconds is not over before\n"
                            "  -r, --rate N          connect: new connections a second (0 = as fast as they go)\n"
                            "  -x, --reset           connect: close with RST instead of FIN\n"
                            "  -f, --from ADDRESS    client addresses, port 0: 127.0.2.1:0+16\n"
                            "  -b, --mebibytes N     bulk: of each connection and direction (256)\n"
                            "  -d, --direction D     bulk: down, up or both (down)\n"
                            "  -B, --body N          http: bytes of a response (64)\n"
                            "  -k, --chunk N         stream, http-stream: bytes (100)\n"
                            "  -i, --interval MS     stream, http-stream: between two chunks of a connection (25)\n"
                            "      --until-told      connect, stream: end when a line comes on standard input, too\n"
                            "      --steps           print 'ready' and 'done', and wait for a line after each\n"
                            "\n"
                            "Examples:\n"
                            "  load serve 127.0.1.1:9000+16\n"
                            "  load exchange 127.0.0.1:8000 --connections 64 --seconds 3\n"
                            "  load bulk 127.0.0.1:8000 -c 4 --mebibytes 512 --direction both\n";

static const struct {
    const char *name;
    void (*run)(const struct options *, struct tally *);
} LOADS[] = {
    {"connect", run_connect}, {"exchange", run_exchange}, {"stream", run_stream},           {"bulk", run_bulk},
    {"idle", run_idle},       {"http", run_http},         {"http-stream", run_http_stream},
};

static double number(const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        die("'%s' is not a number from %g to %g", text, least, most);
    return value;
}

static struct options parse(int argc, char **argv) {
    static const struct option LONG[] = {
        {"connections", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'},
        {"rate", required_argument, NULL, 'r'},
        {"total", required_argument, NULL, 'n'},
        {"reset", no_argument, NULL, 'x'},
        {"from", required_argument, NULL, 'f'},
        {"mebibytes", required_argument, NULL, 'b'},
        {"direction", required_argument, NULL, 'd'},
        {"body", required_argument, NULL, 'B'},
        {"chunk", required_argument, NULL, 'k'},
        {"interval", required_argument, NULL, 'i'},
        {"steps", no_argument, NULL, 'S'},
        {"until-told", no_argument, NULL, 'T'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {
        .connections = 64,
        .seconds = 2,
        .bytes = UINT64_C(256) << 20,
        .body = 64,
        .chunk = 100,
        .interval = 25,
        .pattern = "down",
    };

    for (int c; (c = getopt_long(argc, argv, "c:s:n:r:xf:b:B:d:k:i:", LONG, NULL)) != -1;) {
        switch (c) {
        case 'c':
            options.connections = (uint32_t)number(optarg, 1, 1e6);
            break;
        case 's':
            options.seconds = number(optarg, 0.01, 1e5);
            break;
        case 'n':
            options.total = (uint64_t)number(optarg, 0, 1e12);
            break;
        case 'r':
            options.rate = number(optarg, 0, 1e7);
            break;
        case 'x':
            options.reset = true;
            break;
        case 'f':
            options.from = parse_targets(optarg);
            break;
        case 'b':
            options.bytes = (uint64_t)number(optarg, 1, 1e9) << 20;
            break;
        case 'B':
            options.body = (uint64_t)number(optarg, 0, 1e9);
            break;
        case 'd':
            options.pattern = optarg;
            break;
        case 'k':
            options.chunk = (uint32_t)number(optarg, CHUNK_MIN, CHUNK_MAX);
            break;
        case 'i':
            options.interval = (uint32_t)number(optarg, 1, INTERVAL_MAX);
            break;
        case 'T':
            options.until_told = true;
            break;
        case 'S':
            options.steps = true;
            break;
        default:
            (void)fputs(USAGE, stderr);
            exit(2);
        }
    }
    return options;
}

static void print_outcome(const char *name, const struct tally *tally) {
    const struct latency *latency = &tally->latency;

    (void)printf(
        "{\"load\": \"%s\", \"operations\": %llu, \"errors\": %llu, \"first_error\": \"%s\", \"seconds\": %.6f", name,
        (unsigned long long)tally->operations, (unsigned long long)tally->errors,
        tally->first_error != NULL ? tally->first_error : "", tally->seconds);
    if (latency->count != 0) {
        static const struct {
            const char *name;
            double share;
        } POINTS[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
        (void)printf(", \"latency_us\": {");
        for (size_t i = 0; i < sizeof POINTS / sizeof *POINTS; i++)
            (void)printf("\"%s\": %.1f, ", POINTS[i].name, (double)latency_at(latency, POINTS[i].share) / 1e3);
        (void)printf("\"max\": %.1f}", (double)latency->max / 1e3);
    }
    (void)printf("}\n");
}

int main(int argc, char **argv) {
    static struct tally tally;

    if (argc < 3 || argv[1][0] == '-') {
        (void)fputs(USAGE, argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    raise_file_limit();
    (void)signal(SIGPIPE, SIG_IGN);
    struct targets to = parse_targets(argv[2]);
    if (strcmp(argv[1], "serve") == 0)
        serve(&to);
    struct options options = parse(argc - 2, argv + 2);
    options.to = to;
    for (size_t i = 0; i < sizeof LOADS / sizeof *LOADS; i++) {
        if (strcmp(argv[1], LOADS[i].name) == 0) {
            LOADS[i].run(&options, &tally);
            print_outcome(LOADS[i].name, &tally);
            return 0;
        }
    }
    (void)fputs(USAGE, stderr);
    return 2;
}
