/* Two pumps look at the routes while a third thread changes them, for ThreadSanitizer:
 * every packet finds the route that never leaves, at one of its two peers, and no table
 * is freed under a reader. Counters are read by a fourth. */
#include "fastpath.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
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

static void *look(void *direction)
{
    struct pump *pump = &fp->pumps[(intptr_t)direction];
    while (!atomic_load_explicit(&done, memory_order_relaxed)) {
        section_enter(pump);
        const struct routes *routes = atomic_load(&fp->routes);
        for (int i = 0; i < 2; i++) { /* few: a section left is what is to be seen */
            struct found found;
            check(routes_find(routes, 4, 0, 0x0a050202, &found) &&
                      found.peer.low - 1 < 2 && found.peer.port == 8285,
                  "no such peer");
            check(routes_number(routes, &found.peer) == found.number, "another peer");
            if (pump == &fp->pumps[FP_TX])
                count(&sent_to(&fp->peers, found.number)->packets, 1);
            else
                count(&received_from(&fp->peers, found.number)->packets, 1);
        }
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
