#include "client_options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(void)
{
    fputs("Usage: client [OPTION...] ADDRESS:PORT... > requests.csv     until SIGTERM; then it waits for "
          "what is under way\n\n"
          "  --host NAME      the Host header (localhost)\n"
          "  --path PATH      target, to which id=PREFIX-NUMBER is added (/)\n"
          "  --prefix TEXT    what ids begin with (r)\n"
          "  --rate N         requests a second, or with --rise the most of them (100)\n"
          "  --rise SECONDS   waves: from 0 to --rate in so long, and down again\n"
          "  --rest SECONDS   between two waves\n"
          "  --count N        end after so many\n"
          "  --keep PERCENT   requests on kept connections (0)\n"
          "  --get PERCENT    requests by GET; the others are POST (0)\n"
          "  --again          a kept connection closed before any byte of the answer: send it again on a new "
          "one\n"
          "  --elsewhere      a connection is refused: try the next address\n"
          "  --timeout S      then the request has failed (70)\n",
          stderr);
}

static bool parse_target(struct client_options *options, const char *text)
{
    const char *colon = strrchr(text, ':');
    struct sockaddr_in *target = &options->targets[options->target_count];
    char address[INET_ADDRSTRLEN];

    if (!colon || options->target_count == CLIENT_TARGETS_MAX || (size_t)(colon - text) >= sizeof(address))
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)(colon - text), text);
    target->sin_family = AF_INET;
    target->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    options->target_count++;
    return inet_pton(AF_INET, address, &target->sin_addr) == 1;
}

static bool take_option(struct client_options *options, int option)
{
    switch (option) {
    case 'h':
        options->host = optarg;
        return true;
    case 'p':
        options->path = optarg;
        return true;
    case 'x':
        options->prefix = optarg;
        return true;
    case 'r':
        options->rate = strtod(optarg, NULL);
        return true;
    case 'i':
        options->rise_s = strtod(optarg, NULL);
        return true;
    case 'e':
        options->rest_s = strtod(optarg, NULL);
        return true;
    case 'c':
        options->count = strtoll(optarg, NULL, 10);
        return true;
    case 'k':
        options->keep_percent = (int)strtol(optarg, NULL, 10);
        return true;
    case 'g':
        options->get_percent = (int)strtol(optarg, NULL, 10);
        return true;
    case 'a':
        options->again = true;
        return true;
    case 'w':
        options->elsewhere = true;
        return true;
    case 't':
        options->timeout_us = (int64_t)(strtod(optarg, NULL) * 1e6);
        return true;
    default:
        return false;
    }
}

static bool parse_all(struct client_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},   {"path", required_argument, NULL, 'p'},
        {"prefix", required_argument, NULL, 'x'}, {"rate", required_argument, NULL, 'r'},
        {"rise", required_argument, NULL, 'i'},   {"rest", required_argument, NULL, 'e'},
        {"count", required_argument, NULL, 'c'},  {"keep", required_argument, NULL, 'k'},
        {"get", required_argument, NULL, 'g'},    {"again", no_argument, NULL, 'a'},
        {"elsewhere", no_argument, NULL, 'w'},    {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, '?'},         {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        if (!take_option(options, option))
            return false;
    while (optind < argc)
        if (!parse_target(options, argv[optind++]))
            return false;
    return options->target_count > 0 && options->rate > 0;
}

bool client_options_parse(struct client_options *options, int argc, char **argv)
{
    *options = (struct client_options){
        .host = "localhost", .path = "/", .prefix = "r", .rate = 100, .timeout_us = 70000000};
    if (parse_all(options, argc, argv))
        return true;
    usage();
    return false;
}

double client_options_due_s(const struct client_options *options, uint64_t k)
{
    double rise = options->rise_s, wave = options->rate * rise; /* requests of one wave */
    double at = (double)k + 0.5, start, within;

    if (rise <= 0)
        return (double)k / options->rate;
    start = floor(at / wave) * (2 * rise + options->rest_s);
    within = fmod(at, wave);
    if (within <= wave / 2)
        return start + sqrt(2 * within * rise / options->rate);
    return start + 2 * rise - sqrt(2 * (wave - within) * rise / options->rate);
}
