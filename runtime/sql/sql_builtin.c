#include "runtime/sql/sql_builtin.h"

#include <stdint.h>

#include "runtime/base/mem.h"

#define BOX_OID 603

struct builtin {
    uint16_t oid, element_oid;
    uint8_t kind;
    char delimiter;
};

#define PLAIN(oid, kind)                                                                                     \
    {                                                                                                        \
        oid, 0, SQL_TYPE_##kind, 0                                                                           \
    }
#define ARRAY(oid, element)                                                                                  \
    {                                                                                                        \
        oid, element, SQL_TYPE_ARRAY, (element) == BOX_OID ? ';' : ','                                       \
    }
#define VECTOR(oid, element)                                                                                 \
    {                                                                                                        \
        oid, element, SQL_TYPE_ARRAY, ' '                                                                    \
    }

/* PostgreSQL's pg_type.dat, which never gives a number to another type; in order. */
static const struct builtin builtins[] = {
    PLAIN(16, BOOL),          PLAIN(17, TEXT),   PLAIN(18, TEXT),    PLAIN(19, TEXT),
    PLAIN(20, NUMBER),        PLAIN(21, NUMBER), VECTOR(22, 21),     PLAIN(23, NUMBER),
    PLAIN(24, TEXT),          PLAIN(25, TEXT),   PLAIN(26, TEXT),    PLAIN(27, TEXT),
    PLAIN(28, TEXT),          PLAIN(29, TEXT),   VECTOR(30, 26),     PLAIN(114, JSON),
    PLAIN(142, TEXT),         ARRAY(143, 142),   PLAIN(194, TEXT),   ARRAY(199, 114),
    ARRAY(271, 5069),         PLAIN(600, TEXT),  PLAIN(601, TEXT),   PLAIN(602, TEXT),
    PLAIN(603, TEXT),         PLAIN(604, TEXT),  PLAIN(628, TEXT),   ARRAY(629, 628),
    PLAIN(650, TEXT),         ARRAY(651, 650),   PLAIN(700, NUMBER), PLAIN(701, NUMBER),
    PLAIN(718, TEXT),         ARRAY(719, 718),   PLAIN(774, TEXT),   ARRAY(775, 774),
    PLAIN(790, TEXT),         ARRAY(791, 790),   PLAIN(829, TEXT),   PLAIN(869, TEXT),
    ARRAY(1000, 16),          ARRAY(1001, 17),   ARRAY(1002, 18),    ARRAY(1003, 19),
    ARRAY(1005, 21),          ARRAY(1006, 22),   ARRAY(1007, 23),    ARRAY(1008, 24),
    ARRAY(1009, 25),          ARRAY(1010, 27),   ARRAY(1011, 28),    ARRAY(1012, 29),
    ARRAY(1013, 30),          ARRAY(1014, 1042), ARRAY(1015, 1043),  ARRAY(1016, 20),
    ARRAY(1017, 600),         ARRAY(1018, 601),  ARRAY(1019, 602),   ARRAY(1020, 603),
    ARRAY(1021, 700),         ARRAY(1022, 701),  ARRAY(1027, 604),   ARRAY(1028, 26),
    PLAIN(1033, TEXT),        ARRAY(1034, 1033), ARRAY(1040, 829),   ARRAY(1041, 869),
    PLAIN(1042, TEXT),        PLAIN(1043, TEXT), PLAIN(1082, DATE),  PLAIN(1083, TEXT),
    PLAIN(1114, TIMESTAMP),   ARRAY(1115, 1114), ARRAY(1182, 1082),  ARRAY(1183, 1083),
    PLAIN(1184, TIMESTAMPTZ), ARRAY(1185, 1184), PLAIN(1186, TEXT),  ARRAY(1187, 1186),
    ARRAY(1231, 1700),        ARRAY(1263, 2275), PLAIN(1266, TEXT),  ARRAY(1270, 1266),
    PLAIN(1560, TEXT),        ARRAY(1561, 1560), PLAIN(1562, TEXT),  ARRAY(1563, 1562),
    PLAIN(1700, NUMBER),      PLAIN(1790, TEXT), ARRAY(2201, 1790),  PLAIN(2202, TEXT),
    PLAIN(2203, TEXT),        PLAIN(2204, TEXT), PLAIN(2205, TEXT),  PLAIN(2206, TEXT),
    ARRAY(2207, 2202),        ARRAY(2208, 2203), ARRAY(2209, 2204),  ARRAY(2210, 2205),
    ARRAY(2211, 2206),        PLAIN(2275, TEXT), PLAIN(2278, TEXT),  ARRAY(2949, 2970),
    PLAIN(2950, TEXT),        ARRAY(2951, 2950), PLAIN(2970, TEXT),  PLAIN(3220, TEXT),
    ARRAY(3221, 3220),        PLAIN(3361, TEXT), PLAIN(3402, TEXT),  PLAIN(3614, TEXT),
    PLAIN(3615, TEXT),        PLAIN(3642, TEXT), ARRAY(3643, 3614),  ARRAY(3644, 3642),
    ARRAY(3645, 3615),        PLAIN(3734, TEXT), ARRAY(3735, 3734),  PLAIN(3769, TEXT),
    ARRAY(3770, 3769),        PLAIN(3802, JSON), ARRAY(3807, 3802),  PLAIN(3904, TEXT),
    ARRAY(3905, 3904),        PLAIN(3906, TEXT), ARRAY(3907, 3906),  PLAIN(3908, TEXT),
    ARRAY(3909, 3908),        PLAIN(3910, TEXT), ARRAY(3911, 3910),  PLAIN(3912, TEXT),
    ARRAY(3913, 3912),        PLAIN(3926, TEXT), ARRAY(3927, 3926),  PLAIN(4072, TEXT),
    ARRAY(4073, 4072),        PLAIN(4089, TEXT), ARRAY(4090, 4089),  PLAIN(4096, TEXT),
    ARRAY(4097, 4096),        PLAIN(4191, TEXT), ARRAY(4192, 4191),  PLAIN(4451, TEXT),
    PLAIN(4532, TEXT),        PLAIN(4533, TEXT), PLAIN(4534, TEXT),  PLAIN(4535, TEXT),
    PLAIN(4536, TEXT),        PLAIN(4600, TEXT), PLAIN(4601, TEXT),  PLAIN(5017, TEXT),
    PLAIN(5038, TEXT),        ARRAY(5039, 5038), PLAIN(5069, TEXT),  ARRAY(6150, 4451),
    ARRAY(6151, 4532),        ARRAY(6152, 4533), ARRAY(6153, 4534),  ARRAY(6155, 4535),
    ARRAY(6157, 4536),
};

bool sql_builtin_find(unsigned oid, struct sql_type *ret_type)
{
    size_t low = 0, high = ARRAY_SIZE(builtins);
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct builtin *builtin = &builtins[middle];
        if (builtin->oid == oid) {
            *ret_type = (struct sql_type){.oid = oid,
                                          .kind = (enum sql_type_kind)builtin->kind,
                                          .element_oid = builtin->element_oid,
                                          .delimiter = builtin->delimiter};
            return true;
        }
        if (builtin->oid < oid)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}
