#include "operator/local/watcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CHANGES        (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
#define SETTLE_MS      30  /* a burst is over */
#define SETTLE_MAX_MS  300 /* or it has lasted so long */
#define LOOK_AGAIN_MS  500 /* for a folder that is gone */
#define READ_MAX_BYTES 16384

struct folder {
    char *path;
    int wd; /* -1: it is not there */
};

struct watcher {
    struct loop *loop;
    void (*changed)(void *arg);
    void *arg;
    struct loop_watch watch;
    struct loop_timer settled, look_again;
    int64_t burst_ms; /* 0: there is none */
    struct folder *folders;
    size_t count;
};

static void note_change(struct watcher *watcher)
{
    int64_t now_ms = clock_monotonic_ms();
    if (watcher->burst_ms == 0) {
        watcher->burst_ms = now_ms;
    }
    int64_t latest_ms = watcher->burst_ms + SETTLE_MAX_MS, quiet_ms = now_ms + SETTLE_MS;
    loop_timer_set(watcher->loop, &watcher->settled, quiet_ms < latest_ms ? quiet_ms : latest_ms);
}

static void burst_over(struct loop_timer *timer)
{
    struct watcher *watcher = container_of(timer, struct watcher, settled);
    watcher->burst_ms = 0;
    watcher->changed(watcher->arg);
}

static void begin_to_watch(struct watcher *watcher, struct folder *folder)
{
    folder->wd = inotify_add_watch(watcher->watch.fd, folder->path, CHANGES | IN_ONLYDIR);
    if (folder->wd < 0) {
        loop_timer_set(watcher->loop, &watcher->look_again, clock_monotonic_ms() + LOOK_AGAIN_MS);
    }
}

static void look_for_lost(struct loop_timer *timer)
{
    struct watcher *watcher = container_of(timer, struct watcher, look_again);
    for (size_t i = 0; i < watcher->count; i++) {
        struct folder *folder = &watcher->folders[i];
        if (folder->wd < 0) {
            begin_to_watch(watcher, folder);
            if (folder->wd >= 0) {
                note_change(watcher);
            }
        }
    }
}

static void lose_folder(struct watcher *watcher, int wd)
{
    for (size_t i = 0; i < watcher->count; i++) {
        if (watcher->folders[i].wd == wd) {
            watcher->folders[i].wd = -1;
            loop_timer_set(watcher->loop, &watcher->look_again, clock_monotonic_ms() + LOOK_AGAIN_MS);
        }
    }
}

static void events_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct watcher *watcher = container_of(watch, struct watcher, watch);
    char data[READ_MAX_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t got;
    while ((got = read(watch->fd, data, sizeof data)) > 0) {
        for (char *at = data; at < data + got;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            if (event->mask & IN_MOVE_SELF) {
                (void)inotify_rm_watch(watch->fd, event->wd); /* it is another folder now */
            }
            if (event->mask & IN_IGNORED) {
                lose_folder(watcher, event->wd);
            }
            at += sizeof *event + event->len;
        }
        note_change(watcher); /* also when events were lost: then anything may have changed */
    }
}

int watcher_new(struct loop *loop, void (*changed)(void *arg), void *arg, struct watcher **ret_watcher,
                struct err *err)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(err, errno, "inotify");
    }
    struct watcher *watcher = xcalloc(1, sizeof *watcher);
    watcher->loop = loop;
    watcher->changed = changed;
    watcher->arg = arg;
    loop_timer_init(&watcher->settled, burst_over);
    loop_timer_init(&watcher->look_again, look_for_lost);
    if (loop_watch_open(loop, &watcher->watch, fd, EPOLLIN, events_ready, err) < 0) {
        free(watcher);
        return -1;
    }
    *ret_watcher = watcher;
    return 0;
}

int watcher_add(struct watcher *watcher, const char *folder, struct err *err)
{
    for (size_t i = 0; i < watcher->count; i++) {
        if (strcmp(watcher->folders[i].path, folder) == 0) {
            return 0;
        }
    }
    if (watcher->count == WATCHER_FOLDERS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "%s: more than %d folders to watch", folder, WATCHER_FOLDERS_MAX);
    }
    watcher->folders = xreallocarray(watcher->folders, watcher->count + 1, sizeof *watcher->folders);
    struct folder *added = &watcher->folders[watcher->count++];
    *added = (struct folder){.path = xstrdup(folder)};
    begin_to_watch(watcher, added);
    return 0;
}

void watcher_free(struct watcher *watcher)
{
    if (!watcher) {
        return;
    }
    loop_watch_close(watcher->loop, &watcher->watch);
    loop_timer_close(watcher->loop, &watcher->settled);
    loop_timer_close(watcher->loop, &watcher->look_again);
    for (size_t i = 0; i < watcher->count; i++) {
        free(watcher->folders[i].path);
    }
    free(watcher->folders);
    free(watcher);
}
