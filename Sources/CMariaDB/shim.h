#include <mysql.h>
#include <errmsg.h>
#include <stdint.h>

/* Results of our own small questions to the library, in types that Swift can read. */

static inline int datasync_mysql_set_uint(MYSQL *handle, enum mysql_option option, unsigned int value) {
    return mysql_options(handle, option, &value);
}

static inline int datasync_mysql_set_bool(MYSQL *handle, enum mysql_option option, int value) {
    my_bool flag = value ? 1 : 0;
    return mysql_options(handle, option, &flag);
}

/* The socket, so that a call that hangs can be broken off from another thread. */
static inline int datasync_mysql_socket(MYSQL *handle) {
    return (int)mysql_get_socket(handle);
}

static inline int datasync_mysql_stmt_set_array_size(MYSQL_STMT *statement, unsigned int rows) {
    return mysql_stmt_attr_set(statement, STMT_ATTR_ARRAY_SIZE, &rows);
}

/* The indicator array of a bulk parameter sits in a union. */
static inline void datasync_mysql_bind_set_indicators(MYSQL_BIND *bind, char *indicators) {
    bind->u.indicator = indicators;
}
