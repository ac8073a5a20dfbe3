/* shown_age.c - apart from the rest of the backlog, so that a test which stands for that can do without it. */
#include "operator/backlog/backlog.h"

int64_t backlog_shown_age_s(double age_s)
{
    int64_t age = age_s > 0 && age_s < INT32_MAX ? (int64_t)age_s : 0;
    int64_t step = age < 60 ? 10 : age < 3600 ? 60 : 3600;

    return age / step * step;
}
