/* SPDX-License-Identifier: Apache-2.0 */
#include "storm.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/un.h>
#include <time.h>

#include "check.h"
#include "sockets.h"
#include "until.h"

/* Prime, so that bytes lost or repeated by the powers of two that buffers are made of don't go unnoticed. */
enum { PATTERN = 65521, CHUNK = 32768, POLL_MS = 2 };
enum { MAGIC = 0x4c34624c };

struct frame {
    uint32_t magic;
    uint32_t seed; /* the question's bytes; the answer's are made from its complement */
    uint32_t request;
    uint32_t answer;
};

static uint8_t pattern[PATTERN + CHUNK];

__attribute__((constructor)) static void fill_pattern(void) {
    struct check_random random = {7};

    for (size_t i = 0; i < PATTERN; i++)
        pattern[i] = (uint8_t)check_random_next(&random);
    memcpy(pattern + PATTERN, pattern, CHUNK);
}

/* CHUNK bytes of a stream from there on. */
static const uint8_t *stream(uint32_t seed, uint64_t at) { return pattern + (seed + at) % PATTERN; }

static uint32_t up_to(struct check_random *random, uint32_t n) { return check_random_below(random, n + 1); }

static bool chance(struct check_random *random, uint32_t percent) { return check_random_below(random, 100) < percent; }

int storm_count(const char *directory) {
    char path[64];
    DIR *entries;
    int n = 0;

    (void)snprintf(path, sizeof path, "/proc/self/%s", directory);
    entries = opendir(path);
    CHECK(entries != NULL);
    while (readdir(entries) != NULL)
        n++;
    (void)closedir(entries);
    return n;
}

uint64_t storm_address_space(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long pages;

    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%llu", &pages), 1);
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct storm_runs storm_runs(uint64_t first, uint64_t last, uint64_t ms) {
    const char *seeds = getenv("STORM_SEEDS"), *seconds = getenv("STORM_SECONDS");
    struct storm_runs runs = {first, last, ms};

    if (seeds != NULL) {
        char *rest;
        runs.first = runs.last = strtoull(seeds, &rest, 10);
        if (*rest == '-')
            runs.last = strtoull(rest + 1, &rest, 10);
        CHECK(*rest == '\0' && runs.first <= runs.last);
    }
    if (seconds != NULL)
        runs.ms = (uint64_t)(strtod(seconds, NULL) * 1000);
    return runs;
}

/* ---- sockets ----------------------------------------------------------------------------------------------------- */

static const struct sockaddr *sockaddr(const struct storm_address *address) {
    return (const struct sockaddr *)&address->storage;
}

/* With an unused name: the kernel chooses one when an address of AF_UNIX has none. */
static void name_nothing(struct storm_address *address, sa_family_t family) {
    struct sockaddr_in *in = (struct sockaddr_in *)&address->storage;

    memset(address, 0, sizeof *address);
    address->storage.ss_family = family;
    address->len = family == AF_UNIX ? sizeof(sa_family_t) : sizeof *in;
    if (family == AF_INET)
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static int bind_to(struct storm_address *address, bool shared) {
    int fd = CHECK_SYS(socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), on = 1;

    if (shared)
        (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    (void)CHECK_SYS(bind(fd, sockaddr(address), address->len));
    address->len = sizeof address->storage;
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)&address->storage, &address->len));
    return fd;
}

int storm_listen(struct storm_address *address, sa_family_t family, int backlog) {
    int fd;

    if (address->len == 0)
        name_nothing(address, family);
    fd = bind_to(address, family == AF_INET);
    (void)CHECK_SYS(listen(fd, backlog));
    return fd;
}

/* A socket on its way there, or -1. */
static int go_to(const struct storm_address *address) {
    int fd = CHECK_SYS(socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    if (connect(fd, sockaddr(address), address->len) == 0 || errno == EINPROGRESS)
        return fd;
    (void)close(fd);
    return -1;
}

/* Take what must be the next bytes of a stream. Returns how many, 0 at the end, or -errno. */
static ssize_t take(int fd, uint32_t seed, uint64_t at, uint64_t left) {
    uint8_t bytes[CHUNK];
    ssize_t n = recv(fd, bytes, left < CHUNK ? left : CHUNK, MSG_DONTWAIT);

    if (n > 0)
        CHECK(memcmp(bytes, stream(seed, at), (size_t)n) == 0 && "the bytes that were sent");
    return n == -1 ? -errno : n;
}

static ssize_t give(int fd, const void *bytes, size_t n) {
    ssize_t sent = send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == -1 ? -errno : sent;
}

static bool is_later(ssize_t result) { return result == -EAGAIN || result == -EINTR; }

/* ---- backends ---------------------------------------------------------------------------------------------------- */

enum { PEERS = 1024, FILLERS = 3, PIECES = 20, PAUSE_MS = 4, PEER_MS = 3000, PROXY_V2_SIGNATURE = 0x0d };

/* A connection that a backend has. */
struct peer {
    int fd;
    enum storm_behaviour behaviour;
    struct frame frame;
    uint32_t head; /* bytes of the frame's head that are there */
    uint64_t sent; /* bytes of the question */
    uint64_t answered;
    uint64_t moved;
    uint64_t breaks_at; /* of `moved` */
    uint64_t resume_ms;
    uint64_t dies_ms;
    uint32_t skip;  /* bytes of a PROXY header to come */
    bool skip_line; /* or its line */
    bool began;
    bool ended;    /* the other side sent its FIN */
    bool finished; /* we sent ours */
};

struct storm_backends {
    struct check_random random;
    struct storm_address addresses[STORM_BEHAVIOURS];
    int listeners[STORM_BEHAVIOURS];
    int fillers[STORM_BEHAVIOURS][FILLERS];
    struct peer peers[PEERS];
    uint32_t n_peers;
    pthread_t thread;
    bool stop; /* atomic */
};

static bool answers(const struct peer *peer) {
    return peer->head == sizeof peer->frame && peer->sent == peer->frame.request &&
           peer->answered < peer->frame.answer && peer->behaviour != STORM_IS_SILENT;
}

/* Take a part of a head: of a PROXY header, which may come first, or of a frame. */
static ssize_t peer_takes_head(struct peer *peer) {
    uint8_t *head = (uint8_t *)&peer->frame, byte;
    ssize_t n;

    if (peer->skip_line || peer->skip > 0) {
        n = recv(peer->fd, &byte, 1, MSG_DONTWAIT);
        if (n == 1 && peer->skip > 0)
            peer->skip--;
        else if (n == 1)
            peer->skip_line = byte != '\n';
        return n == -1 ? -errno : n;
    }
    n = recv(peer->fd, head + peer->head, peer->began ? sizeof peer->frame - peer->head : 1, MSG_DONTWAIT);
    if (n <= 0)
        return n == -1 ? -errno : n;
    peer->head += (uint32_t)n;
    if (!peer->began && head[0] == 'P') {
        peer->skip_line = true;
        peer->head = 0;
    } else if (peer->head == sizeof peer->frame && head[0] == PROXY_V2_SIGNATURE) {
        peer->skip = (uint32_t)head[14] << 8 | head[15];
        peer->head = 0;
    }
    peer->began = true;
    CHECK(peer->head < sizeof peer->frame || peer->frame.magic == MAGIC);
    return n;
}

static ssize_t peer_takes(struct peer *peer) {
    ssize_t n;

    if (peer->head < sizeof peer->frame)
        return peer_takes_head(peer);
    n = take(peer->fd, peer->frame.seed, peer->sent, peer->frame.request - peer->sent);
    peer->sent += n > 0 ? (uint64_t)n : 0;
    return n;
}

static ssize_t peer_gives(struct peer *peer, struct check_random *random) {
    uint64_t left = peer->frame.answer - peer->answered;
    uint64_t most = peer->behaviour == STORM_TRICKLES ? 1 + peer->frame.answer / PIECES : CHUNK;
    ssize_t n = give(peer->fd, stream(~peer->frame.seed, peer->answered), left < most ? left : most);

    if (n < 0)
        return n;
    peer->answered += (uint64_t)n;
    if (peer->behaviour == STORM_TRICKLES)
        peer->resume_ms = clock_ms() + up_to(random, PAUSE_MS);
    return n;
}

/* The next frame, and what this one has led to. False when the connection is over. */
static bool peer_turns(struct peer *peer, struct check_random *random) {
    if (peer->head < sizeof peer->frame || peer->sent < peer->frame.request ||
        (peer->answered < peer->frame.answer && peer->behaviour != STORM_IS_SILENT))
        return true;
    if (peer->behaviour == STORM_FINISHES && !peer->finished) {
        if (chance(random, 30))
            return false;
        peer->finished = true;
        (void)shutdown(peer->fd, SHUT_WR);
        peer->behaviour = STORM_IS_SILENT;
    }
    peer->head = 0;
    peer->sent = peer->answered = 0;
    return true;
}

/* False when the connection is over. */
static bool peer_steps(struct peer *peer, struct check_random *random) {
    peer->resume_ms = 0;
    for (int step = 0; step < 16; step++) {
        ssize_t n = answers(peer) ? peer_gives(peer, random) : peer_takes(peer);
        if (is_later(n))
            return true;
        if (n < 0)
            return false;
        if (n == 0) {
            peer->ended = true;
            return peer->behaviour == STORM_IS_SILENT;
        }
        peer->moved += (uint64_t)n;
        if (peer->behaviour == STORM_BREAKS && peer->moved >= peer->breaks_at) {
            hang_up(peer->fd, true);
            peer->fd = -1;
            return false;
        }
        if (!peer_turns(peer, random))
            return false;
        if (peer->resume_ms > 0)
            return true;
    }
    return true;
}

static void peer_comes(struct storm_backends *all, enum storm_behaviour behaviour) {
    struct peer *peer = &all->peers[all->n_peers];
    int fd = accept4(all->listeners[behaviour], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    bool lives_long = behaviour <= STORM_TRICKLES;

    if (fd == -1)
        return;
    *peer = (struct peer){.fd = fd, .behaviour = behaviour};
    peer->dies_ms = lives_long ? UINT64_MAX : clock_ms() + up_to(&all->random, PEER_MS);
    peer->breaks_at = up_to(&all->random, chance(&all->random, 50) ? 200 : 200000);
    if (behaviour == STORM_BREAKS && chance(&all->random, 25))
        hang_up(fd, true);
    else
        all->n_peers++;
}

static bool is_idle(const struct peer *peer) { return peer->behaviour == STORM_IS_STUCK || peer->ended; }

/* What it waits for: who is idle only for a break, who pauses for nothing. */
static struct pollfd peer_waits(const struct peer *peer, uint64_t now_ms) {
    return (struct pollfd){.fd = peer->resume_ms > now_ms ? -1 : peer->fd,
                           .events = is_idle(peer)   ? 0
                                     : answers(peer) ? POLLOUT
                                                     : POLLIN};
}

static bool peer_goes_on(struct peer *peer, short events, struct check_random *random, uint64_t now_ms) {
    if (now_ms >= peer->dies_ms || (events != 0 && is_idle(peer)))
        return false;
    return events == 0 || peer_steps(peer, random);
}

static void peer_goes(struct storm_backends *all, struct peer *peer) {
    if (peer->fd >= 0)
        hang_up(peer->fd, peer->behaviour > STORM_TRICKLES && chance(&all->random, 20));
    *peer = all->peers[--all->n_peers];
}

static struct pollfd listener_waits(const struct storm_backends *all, enum storm_behaviour behaviour) {
    bool takes = behaviour < STORM_REFUSES && all->n_peers + STORM_BEHAVIOURS < PEERS;
    return (struct pollfd){.fd = takes ? all->listeners[behaviour] : -1, .events = POLLIN};
}

static void *backends_run(void *arg) {
    struct storm_backends *all = arg;
    struct pollfd polled[PEERS + STORM_BEHAVIOURS];

    while (!__atomic_load_n(&all->stop, __ATOMIC_ACQUIRE)) {
        uint64_t now_ms = clock_ms();
        uint32_t n = all->n_peers;
        for (uint32_t i = 0; i < n; i++)
            polled[i] = peer_waits(&all->peers[i], now_ms);
        for (uint32_t i = 0; i < STORM_BEHAVIOURS; i++)
            polled[n + i] = listener_waits(all, (enum storm_behaviour)i);
        (void)CHECK_SYS(poll(polled, n + STORM_BEHAVIOURS, POLL_MS));
        for (uint32_t i = 0; i < STORM_BEHAVIOURS; i++) {
            if (polled[n + i].revents != 0)
                peer_comes(all, (enum storm_behaviour)i);
        }
        for (uint32_t i = n; i-- > 0;) {
            if (!peer_goes_on(&all->peers[i], polled[i].revents, &all->random, now_ms))
                peer_goes(all, &all->peers[i]);
        }
    }
    return NULL;
}

static void fill_backlog(const struct storm_address *address, int *fillers) {
    for (int i = 0; i < FILLERS; i++)
        fillers[i] = go_to(address);
}

struct storm_backends *storm_backends_start(const char *storm, uint64_t seed) {
    struct storm_backends *all = calloc(1, sizeof *all);

    CHECK(all != NULL);
    check_running = storm;
    all->random = (struct check_random){seed};
    for (int i = 0; i < STORM_BEHAVIOURS; i++) {
        bool is_unix = i == STORM_ANSWERS_UNIX || i == STORM_REFUSES_UNIX || i == STORM_IS_FULL_UNIX;
        struct storm_address *address = &all->addresses[i];
        memset(all->fillers[i], 0xff, sizeof all->fillers[i]);
        name_nothing(address, is_unix ? AF_UNIX : AF_INET);
        /* The port stays taken, so that no client gets it and then connects to itself. */
        all->listeners[i] = bind_to(address, false);
        if (i < STORM_REFUSES)
            (void)CHECK_SYS(listen(all->listeners[i], 4096));
        if (i == STORM_IS_FULL || i == STORM_IS_FULL_UNIX) {
            (void)CHECK_SYS(listen(all->listeners[i], 0));
            fill_backlog(address, all->fillers[i]);
        }
    }
    (void)close(all->listeners[STORM_REFUSES_UNIX]);
    all->listeners[STORM_REFUSES_UNIX] = -1;
    CHECK_EQ(pthread_create(&all->thread, NULL, backends_run, all), 0);
    return all;
}

void storm_backends_stop(struct storm_backends *all) {
    __atomic_store_n(&all->stop, true, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(all->thread, NULL), 0);
    for (uint32_t i = 0; i < all->n_peers; i++)
        (void)close(all->peers[i].fd);
    for (int i = 0; i < STORM_BEHAVIOURS; i++) {
        for (int j = 0; j < FILLERS; j++) {
            if (all->fillers[i][j] >= 0)
                (void)close(all->fillers[i][j]);
        }
        if (all->listeners[i] >= 0)
            (void)close(all->listeners[i]);
    }
    free(all);
}

const struct storm_address *storm_backend(const struct storm_backends *all, enum storm_behaviour behaviour) {
    return &all->addresses[behaviour];
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

enum { VISITS = 512, FRAMES = 4, PATIENCE_MS = 2500, STALL_MS = 400, THINK_MS = 60, NEW_AT_ONCE = 8 };
enum { SLOW_STEP_MIN = 2048, SLOW_STEP_MAX = 8192, SLOW_PAUSE_MS = 4, SLOW_BUFFER = 4096, LATE_MS = 1500 };

enum manner {
    ORDERLY,
    SAYS_NOTHING,
    RESETS,     /* at some byte */
    CLOSES,     /* likewise, without waiting for what is to come */
    HALF_CLOSES /* likewise, and reads on */
};

struct visit {
    int fd; /* -1 = no client */
    bool calm;
    bool asks_at_once;   /* all questions, before the first answer */
    bool finishes_early; /* sends its FIN after the last question, not after the last answer */
    bool finished;
    enum manner manner;
    struct check_random random;
    char head[128]; /* the PROXY header */
    uint32_t head_len;
    uint32_t head_sent;
    struct frame frames[FRAMES];
    uint32_t n_frames;
    uint32_t asking;    /* the frame that is being sent, */
    uint64_t sent;      /* bytes of it, head included */
    uint32_t answering; /* the frame whose answer is coming, */
    uint64_t answered;  /* bytes of it */
    uint64_t moved;
    uint64_t ends_at; /* of `moved`, for those that end by themselves */
    uint64_t leaves_ms;
    uint64_t reads_ms; /* not before */
    uint64_t asks_ms;  /* not before */
    uint32_t step;     /* bytes that it reads at a time; 0 = as many as there are */
    uint32_t pause_ms; /* between two reads, at most */
};

struct storm_clients {
    const char *storm;
    struct check_random random;
    uint32_t at_once;
    struct visit visits[VISITS];
    struct storm_tally tally;
    pthread_t thread;
    pthread_mutex_t lock; /* over doors */
    struct storm_door doors[STORM_DOORS];
    enum storm_pace pace;      /* atomic */
    enum storm_pace pace_seen; /* atomic */
};

static uint32_t draw_size(struct check_random *random) {
    uint32_t kind = check_random_below(random, 10);
    return up_to(random, kind < 6 ? 200 : kind < 9 ? 20000 : 400000);
}

static void draw_frames(struct visit *visit) {
    struct check_random *random = &visit->random;

    visit->n_frames = 1 + check_random_below(random, FRAMES);
    for (uint32_t i = 0; i < visit->n_frames; i++)
        visit->frames[i] = (struct frame){.magic = MAGIC,
                                          .seed = (uint32_t)check_random_next(random),
                                          .request = draw_size(random),
                                          .answer = draw_size(random)};
}

static void draw_manner(struct visit *visit) {
    struct check_random *random = &visit->random;
    uint32_t kind = check_random_below(random, 100);
    uint64_t now_ms = clock_ms();

    visit->manner = kind < 45   ? ORDERLY
                    : kind < 60 ? SAYS_NOTHING
                    : kind < 78 ? RESETS
                    : kind < 90 ? CLOSES
                                : HALF_CLOSES;
    visit->ends_at = chance(random, 30) ? 0 : up_to(random, chance(random, 50) ? 500 : 100000);
    visit->leaves_ms = now_ms + up_to(random, chance(random, 30) ? 100 : PATIENCE_MS);
    if (chance(random, 15))
        visit->reads_ms = now_ms + up_to(random, STALL_MS);
}

/* How a client reads that has all the time in the world: mostly at once. A slow one has a small buffer and takes its
 * time between reads; a late one begins to read long after everything was sent to it. */
static void draw_reading(struct visit *visit) {
    struct check_random *random = &visit->random;
    uint32_t draw = check_random_below(random, 100);
    int buffer = SLOW_BUFFER;

    if (draw < 10) {
        visit->step = SLOW_STEP_MIN + up_to(random, SLOW_STEP_MAX - SLOW_STEP_MIN);
        visit->pause_ms = SLOW_PAUSE_MS;
    }
    if (draw < 20)
        (void)setsockopt(visit->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (draw >= 15 && draw < 25)
        visit->reads_ms = clock_ms() + up_to(random, LATE_MS);
}

/* Version 1, mostly right: sometimes it is nonsense, and sometimes its end is missing. */
static void draw_head(struct visit *visit) {
    uint32_t draw = check_random_below(&visit->random, 100);
    int len = snprintf(visit->head, sizeof visit->head, "PROXY TCP4 192.0.2.%u 198.51.100.1 %u 80\r\n", draw % 16,
                       1024 + draw);

    visit->head_len = (uint32_t)len;
    if (draw < 6)
        visit->head[draw] = '?';
    else if (draw < 12)
        visit->head_len = draw;
    if (draw < 12)
        visit->manner = SAYS_NOTHING;
}

static void come(struct storm_clients *clients, struct visit *visit) {
    struct storm_door door;

    visit->fd = -1;
    /* A door closes before or after a connect to it, so that no client reaches the next owner of its address. */
    (void)pthread_mutex_lock(&clients->lock);
    door = clients->doors[check_random_below(&clients->random, STORM_DOORS)];
    if (door.open) {
        *visit = (struct visit){.calm = door.calm, .random = {check_random_next(&clients->random)}};
        visit->fd = go_to(&door.address);
    }
    (void)pthread_mutex_unlock(&clients->lock);
    if (visit->fd < 0)
        return;
    clients->tally.begun++;
    draw_frames(visit);
    visit->asks_at_once = chance(&visit->random, 30);
    visit->finishes_early = chance(&visit->random, 50);
    visit->leaves_ms = UINT64_MAX;
    if (visit->calm)
        draw_reading(visit);
    else
        draw_manner(visit);
    if (door.proxy)
        draw_head(visit);
}

static bool has_asked(const struct visit *visit) { return visit->asking == visit->n_frames; }
static bool has_answers(const struct visit *visit) { return visit->answering == visit->n_frames; }

static bool may_ask(const struct visit *visit, uint64_t now_ms) {
    if (visit->head_sent < visit->head_len)
        return true;
    return visit->manner != SAYS_NOTHING && !visit->finished && !has_asked(visit) && now_ms >= visit->asks_ms &&
           (visit->asks_at_once || visit->asking == visit->answering);
}

/* On to the next answer. Those without a byte are there at once. */
static void count_answers(struct visit *visit) {
    while (!has_answers(visit) && visit->answering < visit->asking &&
           visit->answered == visit->frames[visit->answering].answer) {
        visit->answering++;
        visit->answered = 0;
        visit->asks_ms = clock_ms() + (chance(&visit->random, 40) ? up_to(&visit->random, THINK_MS) : 0);
    }
}

static ssize_t ask(struct visit *visit) {
    const struct frame *frame = &visit->frames[visit->asking];
    uint64_t left;
    ssize_t n;

    if (visit->head_sent < visit->head_len) {
        n = give(visit->fd, visit->head + visit->head_sent, visit->head_len - visit->head_sent);
        visit->head_sent += n > 0 ? (uint32_t)n : 0;
        return n;
    }
    if (visit->sent < sizeof *frame) {
        n = give(visit->fd, (const uint8_t *)frame + visit->sent, sizeof *frame - visit->sent);
    } else {
        left = sizeof *frame + frame->request - visit->sent;
        n = give(visit->fd, stream(frame->seed, visit->sent - sizeof *frame), left < CHUNK ? left : CHUNK);
    }
    if (n < 0)
        return n;
    visit->sent += (uint64_t)n;
    visit->moved += (uint64_t)n;
    if (visit->sent == sizeof *frame + frame->request) {
        visit->asking++;
        visit->sent = 0;
        count_answers(visit);
    }
    return n;
}

/* Returns what take() does. Where no answer is due, the next thing is the end. */
static ssize_t hear(struct visit *visit) {
    const struct frame *frame;
    uint64_t left;
    uint8_t byte;
    ssize_t n;

    if (has_answers(visit) || visit->answering == visit->asking) {
        n = recv(visit->fd, &byte, 1, MSG_DONTWAIT);
        CHECK(n <= 0 && "a byte that nobody sent");
        return n == -1 ? -errno : n;
    }
    frame = &visit->frames[visit->answering];
    left = frame->answer - visit->answered;
    n = take(visit->fd, ~frame->seed, visit->answered, visit->step > 0 && visit->step < left ? visit->step : left);
    if (n > 0 && visit->pause_ms > 0)
        visit->reads_ms = clock_ms() + up_to(&visit->random, visit->pause_ms);
    if (n > 0) {
        visit->answered += (uint64_t)n;
        visit->moved += (uint64_t)n;
        count_answers(visit);
    }
    return n;
}

static void leave(struct visit *visit, bool reset) {
    hang_up(visit->fd, reset);
    visit->fd = -1;
}

/* The other side ended it: by a FIN (0) or worse. */
static void is_over(struct storm_clients *clients, struct visit *visit, ssize_t how) {
    if (how == 0 && visit->finished && has_answers(visit) && visit->manner == ORDERLY) {
        clients->tally.complete++;
        clients->tally.calm += visit->calm;
        for (uint32_t i = 0; visit->calm && i < visit->n_frames; i++) {
            clients->tally.calm_asked += sizeof visit->frames[i] + visit->frames[i].request;
            clients->tally.calm_answered += visit->frames[i].answer;
        }
    } else if (visit->calm) {
        (void)fprintf(stderr, "%s: a calm client asked %u+%llu of %u, got %u+%llu, finished %d, and then %s\n",
                      clients->storm, visit->asking, (unsigned long long)visit->sent, visit->n_frames, visit->answering,
                      (unsigned long long)visit->answered, visit->finished, how == 0 ? "the end" : strerror((int)-how));
        CHECK(false && "calm clients get everything");
    }
    leave(visit, chance(&visit->random, 20));
}

/* A visit that ends by itself has come to that. */
static bool has_come_to_its_end(struct visit *visit) {
    if (visit->manner <= SAYS_NOTHING || visit->moved < visit->ends_at)
        return false;
    if (visit->manner == HALF_CLOSES) {
        if (!visit->finished)
            (void)shutdown(visit->fd, SHUT_WR);
        visit->finished = true;
        return false;
    }
    leave(visit, visit->manner == RESETS);
    return true;
}

static void visit_steps(struct storm_clients *clients, struct visit *visit, short events, uint64_t now_ms) {
    ssize_t n;

    if (now_ms >= visit->leaves_ms) {
        leave(visit, chance(&visit->random, 50));
        return;
    }
    for (int step = 0; step < 16; step++) {
        bool idle = true;
        if (has_come_to_its_end(visit))
            return;
        if ((events & POLLOUT) != 0 && may_ask(visit, now_ms)) {
            n = ask(visit);
            if (n < 0 && !is_later(n)) {
                /* What came before is still to be heard, and says how it ended. */
                visit->head_sent = visit->head_len;
                visit->asks_at_once = false;
                visit->asks_ms = UINT64_MAX;
            }
            idle = n < 0;
        }
        if (now_ms >= visit->reads_ms) { /* which a slow reader moves on */
            n = hear(visit);
            if (n <= 0 && !is_later(n) && n != -ENOTCONN) {
                is_over(clients, visit, n);
                return;
            }
            idle = idle && n < 0;
        }
        if (!visit->finished && has_asked(visit) && (visit->finishes_early || has_answers(visit))) {
            visit->finished = true;
            (void)shutdown(visit->fd, SHUT_WR);
        }
        if (idle)
            return;
    }
}

/* Who is still about, of those it matters for. */
static bool is_about(const struct visit *visit, enum storm_pace pace) {
    return visit->fd >= 0 && (pace != STORM_LEAVES || visit->calm);
}

static struct pollfd visit_waits(const struct visit *visit, uint64_t now_ms) {
    int events = (may_ask(visit, now_ms) ? POLLOUT : 0) | (now_ms >= visit->reads_ms ? POLLIN : 0);
    return (struct pollfd){.fd = events != 0 ? visit->fd : -1, .events = (short)events};
}

static uint32_t move_all(struct storm_clients *clients, enum storm_pace pace) {
    struct pollfd polled[VISITS];
    uint64_t now_ms = clock_ms();
    uint32_t n_about = 0, n_new = 0;

    for (uint32_t i = 0; i < clients->at_once; i++) {
        struct visit *visit = &clients->visits[i];
        if (visit->fd < 0 && pace == STORM_COMES && n_new++ < NEW_AT_ONCE)
            come(clients, visit);
        polled[i] = is_about(visit, pace) ? visit_waits(visit, now_ms) : (struct pollfd){.fd = -1};
        n_about += is_about(visit, pace);
    }
    (void)CHECK_SYS(poll(polled, clients->at_once, POLL_MS));
    for (uint32_t i = 0; i < clients->at_once; i++) {
        struct visit *visit = &clients->visits[i];
        if (is_about(visit, pace) &&
            (polled[i].revents != 0 || visit->manner > SAYS_NOTHING || now_ms >= visit->leaves_ms))
            visit_steps(clients, visit, polled[i].revents, now_ms);
    }
    return n_about;
}

static void *clients_run(void *arg) {
    struct storm_clients *clients = arg;
    enum storm_pace pace;

    while ((pace = __atomic_load_n(&clients->pace, __ATOMIC_ACQUIRE)) != STORM_IS_GONE) {
        if (pace == STORM_HOLDS)
            rest_ms(1);
        else if (move_all(clients, pace) > 0 && pace == STORM_LEAVES)
            continue;
        __atomic_store_n(&clients->pace_seen, pace, __ATOMIC_RELEASE);
    }
    for (uint32_t i = 0; i < clients->at_once; i++) {
        if (clients->visits[i].fd >= 0)
            leave(&clients->visits[i], chance(&clients->random, 50));
    }
    __atomic_store_n(&clients->pace_seen, pace, __ATOMIC_RELEASE);
    return NULL;
}

struct storm_clients *storm_clients_start(const char *storm, uint64_t seed, uint32_t at_once) {
    struct storm_clients *clients = calloc(1, sizeof *clients);

    CHECK(clients != NULL && at_once <= VISITS);
    check_running = clients->storm = storm;
    clients->random = (struct check_random){seed};
    clients->at_once = at_once;
    clients->pace = clients->pace_seen = STORM_HOLDS;
    (void)pthread_mutex_init(&clients->lock, NULL);
    for (uint32_t i = 0; i < at_once; i++)
        clients->visits[i].fd = -1;
    CHECK_EQ(pthread_create(&clients->thread, NULL, clients_run, clients), 0);
    return clients;
}

struct storm_tally storm_clients_stop(struct storm_clients *clients) {
    struct storm_tally tally;

    storm_clients_pace(clients, STORM_IS_GONE);
    CHECK_EQ(pthread_join(clients->thread, NULL), 0);
    tally = clients->tally;
    (void)pthread_mutex_destroy(&clients->lock);
    free(clients);
    return tally;
}

void storm_clients_door(struct storm_clients *clients, unsigned door, const struct storm_door *what) {
    (void)pthread_mutex_lock(&clients->lock);
    clients->doors[door] = *what;
    (void)pthread_mutex_unlock(&clients->lock);
}

void storm_clients_pace(struct storm_clients *clients, enum storm_pace pace) {
    __atomic_store_n(&clients->pace, pace, __ATOMIC_RELEASE);
    UNTIL(__atomic_load_n(&clients->pace_seen, __ATOMIC_ACQUIRE) == pace);
}

void storm_ask_once(const struct storm_address *address) {
    struct frame frame = {.magic = MAGIC, .seed = 1, .request = 1, .answer = 1};
    struct pollfd polled = {.fd = go_to(address), .events = POLLIN};
    uint8_t request[sizeof frame + 1];

    CHECK(polled.fd >= 0);
    (void)CHECK_SYS(fcntl(polled.fd, F_SETFL, 0));
    memcpy(request, &frame, sizeof frame);
    request[sizeof frame] = *stream(frame.seed, 0);
    CHECK_EQ(send(polled.fd, request, sizeof request, MSG_NOSIGNAL), sizeof request);
    CHECK_EQ(poll(&polled, 1, WAIT_MS), 1);
    CHECK_EQ(take(polled.fd, ~frame.seed, 0, 1), 1);
    (void)close(polled.fd);
}
