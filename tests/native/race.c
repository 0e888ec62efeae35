/* Two pumps look at the routes while a third thread changes them, for ThreadSanitizer:
 * every packet finds the route that never leaves, at one of its two peers, and no table
 * is freed under a reader. Counters are read by a fourth. Observers come and go, and hear
 * whole events. */
#include "watch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHANGES = 3000, OTHERS = 50 };

static struct fp *fp;
static atomic_bool done;

static void check(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    _exit(2);
}

static void tell_of(enum fp_direction direction)
{
    static const uint8_t packet[20] = {1, 2, 3};
    struct watch *seen = atomic_load(&fp->watch);
    struct subject subject;
    if (!seen) return;
    subject_open(&subject, seen, direction, 7, packet, sizeof packet, 0);
    tell(&subject, FP_READ);
}

/* What the observer is told of one direction: whole events. */
static void hear(enum fp_direction direction)
{
    static uint8_t records[1 << 12];
    uint64_t lost;
    int got = fp_watched(fp, direction, records, sizeof records, &lost);
    check(got >= 0, "not watched");
    for (int at = 0; at < got; at += 64) {
        struct fp_event event;
        memcpy(&event, records + at, sizeof event);
        check(event.size == 64 && event.number == 7 && event.direction == direction &&
                  memcmp(records + at + sizeof event, "\1\2\3", 3) == 0,
              "not a whole event");
    }
}

/* An observer begins, hears for a while, and ends. */
static void observe(uint32_t turn)
{
    static const struct fp_instruction all = {.code = 6, .k = 1}; /* ret #1 */
    struct fp_watch wish = {.filter = &all, .count = 1, .snap = 3, .kinds = 1 << FP_READ};
    if (turn % 8 == 0) check(fp_watch(fp, &wish) == 0, "not begun");
    hear(FP_TX);
    hear(FP_RX);
    if (turn % 8 == 7) fp_unwatch(fp);
}

static void *look(void *which)
{
    enum fp_direction direction = (enum fp_direction)(intptr_t)which;
    struct pump *pump = &fp->pumps[direction];
    while (!atomic_load_explicit(&done, memory_order_relaxed)) {
        section_enter(pump);
        const struct routes *routes = atomic_load(&fp->routes);
        for (int i = 0; i < 2; i++) { /* few: a section left is what is to be seen */
            struct found found;
            check(routes_find(routes, 4, 0, 0x0a050202, &found) &&
                      found.peer.low - 1 < 2 && found.peer.port == 8285,
                  "no such peer");
            check(routes_number(routes, &found.peer) == found.number, "another peer");
            if (direction == FP_TX)
                count(&sent_to(&fp->peers, found.number)->packets, 1);
            else
                count(&received_from(&fp->peers, found.number)->packets, 1);
        }
        tell_of(direction);
        section_leave(pump);
        count(&pump->counters.packets, 1);
    }
    return NULL;
}

static void *watch(void *unused)
{
    struct fp_counters counters;
    uint64_t before[FP_DIRECTIONS] = {0};
    (void)unused;
    while (!atomic_load_explicit(&done, memory_order_relaxed))
        for (int i = 0; i < FP_DIRECTIONS; i++) {
            fp_read_counters(fp, (enum fp_direction)i, &counters);
            check(counters.packets >= before[i], "a counter went back");
            before[i] = counters.packets;
        }
    return NULL;
}

static struct fp_route route(uint32_t third, uint32_t address)
{
    return (struct fp_route){
        .low = 0x0a050000 | third << 8, .length = 24, .version = 4,
        .peer = {.low = address, .version = 4, .port = 8285},
    };
}

int main(void)
{
    struct fp_config config = {
        .tun_fd = -1, .udp_fd = -1, .stop_fd = -1, .mtu = 1472, .batch = 1,
    };
    struct fp_route others[OTHERS], first = route(2, 1);
    pthread_t threads[FP_DIRECTIONS + 1];
    for (uint32_t i = 0; i < OTHERS; i++) others[i] = route(3 + i, 1);
    check(fp_new(&config, &fp) == 0 && fp_set_routes(fp, &first, 1) == 0, "no path");
    for (uint32_t i = 0; i < CHANGES; i++) { /* nobody looks: nothing is held */
        struct fp_route both[] = {route(2, 1 + i % 2), route(3, 1 + i % 2)};
        check(fp_set_routes(fp, both, 2) == 0, "not set");
    }
    check(fp->peers.count <= 3, "a number is not given again");
    for (intptr_t i = 0; i < FP_DIRECTIONS; i++)
        pthread_create(&threads[i], NULL, look, (void *)i);
    pthread_create(&threads[FP_DIRECTIONS], NULL, watch, NULL);
    for (uint32_t i = 0; i < CHANGES; i++) {
        struct fp_route same = route(2, 1 + i % 2);
        observe(i);
        check(fp_set_routes(fp, &same, 1) == 0, "not set");
        check(i % 2 ? fp_set_routes(fp, others, OTHERS) == 0
                    : fp_del_routes(fp, others, OTHERS) == 0, "not changed");
    }
    atomic_store(&done, true);
    for (int i = 0; i <= FP_DIRECTIONS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < FP_DIRECTIONS; i++)
        check(fp->pumps[i].counters.packets > 100, "a pump had no turn");
    fp_free(fp);
    return 0;
}
