#include "operator/local/watcher.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define CHANGES                                                                                              \
    (IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
#define SETTLE_MS      30  /* a burst is over */
#define SETTLE_MAX_MS  300 /* or it has lasted so long */
#define LOOK_AGAIN_MS  500 /* for a folder that is gone */
#define READ_MAX_BYTES 16384
#define LINKS_MAX      40 /* on the way to one file, as the kernel has it */

struct folder {
    char *path;
    int wd;         /* -1: it is not there */
    bool is_wanted; /* in this round */
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

static const struct folder *find_folder(const struct watcher *watcher, int wd)
{
    for (size_t i = 0; i < watcher->count; i++) {
        if (watcher->folders[i].wd == wd) {
            return &watcher->folders[i];
        }
    }
    return NULL;
}

/* A file that is made is yet to be written; of a link, hard or symbolic, or a folder that is all there is to hear. */
static bool is_change(const struct watcher *watcher, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        return true; /* anything may have changed */
    }
    const struct folder *folder = find_folder(watcher, event->wd);
    if (!folder || !(event->mask & IN_CREATE) || (event->mask & IN_ISDIR)) {
        return folder != NULL;
    }
    CLEANUP_FREE char *path = xasprintf("%s/%s", folder->path, event->name);
    struct stat status;
    return lstat(path, &status) == 0 && (S_ISLNK(status.st_mode) || status.st_nlink > 1);
}

static void events_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct watcher *watcher = container_of(watch, struct watcher, watch);
    char data[READ_MAX_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool changed = false;
    ssize_t got;
    while ((got = read(watch->fd, data, sizeof data)) > 0) {
        for (char *at = data; at < data + got;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            changed |= is_change(watcher, event);
            if (event->mask & IN_MOVE_SELF) {
                (void)inotify_rm_watch(watch->fd, event->wd); /* it is another folder now */
            }
            if (event->mask & IN_IGNORED) {
                lose_folder(watcher, event->wd);
            }
            at += sizeof *event + event->len;
        }
    }
    if (changed) {
        note_change(watcher);
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

/* ---- what is watched ---- */

/* Two paths of one folder have one watch. */
static bool is_watched_as_another(const struct watcher *watcher, const struct folder *folder)
{
    for (size_t i = 0; i < watcher->count; i++) {
        const struct folder *other = &watcher->folders[i];
        if (other != folder && other->wd == folder->wd) {
            return true;
        }
    }
    return false;
}

static void drop_unwanted(struct watcher *watcher)
{
    for (size_t i = watcher->count; i-- > 0;) {
        struct folder *folder = &watcher->folders[i];
        if (folder->is_wanted) {
            continue;
        }
        if (folder->wd >= 0 && !is_watched_as_another(watcher, folder)) {
            (void)inotify_rm_watch(watcher->watch.fd, folder->wd);
        }
        free(folder->path);
        *folder = watcher->folders[--watcher->count];
    }
}

static int add_folder(struct watcher *watcher, const char *path, bool *ret_is_new, struct err *err)
{
    for (size_t i = 0; i < watcher->count; i++) {
        if (strcmp(watcher->folders[i].path, path) == 0) {
            watcher->folders[i].is_wanted = true;
            return 0;
        }
    }
    if (watcher->count == WATCHER_FOLDERS_MAX) {
        drop_unwanted(watcher); /* sooner than watcher_end(): they only leave room */
    }
    if (watcher->count == WATCHER_FOLDERS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "%s: more than %d folders to watch", path, WATCHER_FOLDERS_MAX);
    }
    watcher->folders = xreallocarray(watcher->folders, watcher->count + 1, sizeof *watcher->folders);
    struct folder *added = &watcher->folders[watcher->count++];
    *added = (struct folder){.path = xstrdup(path), .is_wanted = true};
    begin_to_watch(watcher, added);
    *ret_is_new = true;
    return 0;
}

/* On the way to a file: the folder that was reached, without links, and what is left to go. */
struct walk {
    char *at, *left;
    int links;
};

static void go(struct walk *walk, char *at /* taken */, char *left /* taken */)
{
    free(walk->at);
    free(walk->left);
    walk->at = at;
    walk->left = left;
}

/* Into the folder or through the link that comes next. False: a file does, or nothing, or links without an end. */
static bool take_step(struct walk *walk, bool *ret_is_link)
{
    const char *name = walk->left + strspn(walk->left, "/"), *rest = name + strcspn(name, "/");
    CLEANUP_FREE char *next =
        xasprintf("%s%s%.*s", walk->at, str_ends_with(walk->at, "/") ? "" : "/", (int)(rest - name), name);
    char target[PATH_MAX];
    struct stat status;
    *ret_is_link = false;
    if (*name == '\0' || lstat(next, &status) < 0) {
        return false;
    }
    if (S_ISDIR(status.st_mode)) {
        go(walk, steal_ptr(&next), xstrdup(rest));
        return true;
    }
    ssize_t len = S_ISLNK(status.st_mode) ? readlink(next, target, sizeof target) : -1;
    if (len <= 0 || walk->links++ == LINKS_MAX) {
        return false;
    }
    go(walk, xstrdup(target[0] == '/' ? "/" : walk->at), xasprintf("%.*s/%s", (int)len, target, rest));
    *ret_is_link = true;
    return true;
}

static int walk_to(struct watcher *watcher, const char *path, bool *ret_is_new, struct err *err)
{
    struct walk walk = {.at = xstrdup(path[0] == '/' ? "/" : "."), .left = xstrdup(path)};
    int result = 0;
    bool goes_on = true, is_link;
    while (goes_on && result == 0) {
        CLEANUP_FREE char *folder = xstrdup(walk.at);
        goes_on = take_step(&walk, &is_link);
        if (!goes_on || is_link) {
            result = add_folder(watcher, folder, ret_is_new, err);
        }
    }
    free(walk.at);
    free(walk.left);
    return result;
}

/* What changes between the look at a folder and its watch is seen by another look. */
int watcher_add(struct watcher *watcher, const char *path, struct err *err)
{
    bool is_new = true;
    int result = 0;
    for (int i = 0; i < LINKS_MAX && is_new && result == 0; i++) {
        is_new = false;
        result = walk_to(watcher, path, &is_new, err);
    }
    return result;
}

void watcher_begin(struct watcher *watcher)
{
    for (size_t i = 0; i < watcher->count; i++) {
        watcher->folders[i].is_wanted = false;
    }
}

void watcher_end(struct watcher *watcher)
{
    drop_unwanted(watcher);
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
