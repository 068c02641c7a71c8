"""The checks of Scripts/check-sql, which says what they prove. Not meant to be run by itself."""

import argparse
import logging
import pathlib
import re
import sys

import sqlglot
from sqlglot import exp

# What is reserved in MySQL 8.0 (https://dev.mysql.com/doc/refman/8.0/en/keywords.html), and the few words that 8.4 and 9
# reserve besides. MariaDB's own list is shorter, so that a test run on MariaDB finds none of these.
RESERVED = set("""
ACCESSIBLE ADD ALL ALTER ANALYZE AND AS ASC ASENSITIVE BEFORE BETWEEN BIGINT BINARY BLOB BOTH BY CALL CASCADE CASE CHANGE
CHAR CHARACTER CHECK COLLATE COLUMN CONDITION CONSTRAINT CONTINUE CONVERT CREATE CROSS CUBE CUME_DIST CURRENT_DATE
CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER CURSOR DATABASE DATABASES DAY_HOUR DAY_MICROSECOND DAY_MINUTE DAY_SECOND DEC
DECIMAL DECLARE DEFAULT DELAYED DELETE DENSE_RANK DESC DESCRIBE DETERMINISTIC DISTINCT DISTINCTROW DIV DOUBLE DROP DUAL
EACH ELSE ELSEIF EMPTY ENCLOSED ESCAPED EXCEPT EXISTS EXIT EXPLAIN FALSE FETCH FIRST_VALUE FLOAT FLOAT4 FLOAT8 FOR FORCE
FOREIGN FROM FULLTEXT FUNCTION GENERATED GET GRANT GROUP GROUPING GROUPS HAVING HIGH_PRIORITY HOUR_MICROSECOND
HOUR_MINUTE HOUR_SECOND IF IGNORE IN INDEX INFILE INNER INOUT INSENSITIVE INSERT INT INT1 INT2 INT3 INT4 INT8 INTEGER
INTERSECT INTERVAL INTO IO_AFTER_GTIDS IO_BEFORE_GTIDS IS ITERATE JOIN JSON_TABLE KEY KEYS KILL LAG LAST_VALUE LATERAL
LEAD LEADING LEAVE LEFT LIKE LIMIT LINEAR LINES LOAD LOCALTIME LOCALTIMESTAMP LOCK LONG LONGBLOB LONGTEXT LOOP
LOW_PRIORITY MASTER_BIND MASTER_SSL_VERIFY_SERVER_CERT MATCH MAXVALUE MEDIUMBLOB MEDIUMINT MEDIUMTEXT MIDDLEINT
MINUTE_MICROSECOND MINUTE_SECOND MOD MODIFIES NATURAL NOT NO_WRITE_TO_BINLOG NTH_VALUE NTILE NULL NUMERIC OF ON OPTIMIZE
OPTIMIZER_COSTS OPTION OPTIONALLY OR ORDER OUT OUTER OUTFILE OVER PARTITION PERCENT_RANK PRECISION PRIMARY PROCEDURE
PURGE RANGE RANK READ READS READ_WRITE REAL RECURSIVE REFERENCES REGEXP RELEASE RENAME REPEAT REPLACE REQUIRE RESIGNAL
RESTRICT RETURN REVOKE RIGHT RLIKE ROW ROWS ROW_NUMBER SCHEMA SCHEMAS SECOND_MICROSECOND SELECT SENSITIVE SEPARATOR SET
SHOW SIGNAL SMALLINT SPATIAL SPECIFIC SQL SQLEXCEPTION SQLSTATE SQLWARNING SQL_BIG_RESULT SQL_CALC_FOUND_ROWS
SQL_SMALL_RESULT SSL STARTING STORED STRAIGHT_JOIN SYSTEM TABLE TERMINATED THEN TINYBLOB TINYINT TINYTEXT TO TRAILING
TRIGGER TRUE UNDO UNION UNIQUE UNLOCK UNSIGNED UPDATE USAGE USE USING UTC_DATE UTC_TIME UTC_TIMESTAMP VALUES VARBINARY
VARCHAR VARCHARACTER VARYING VIRTUAL WHEN WHERE WHILE WINDOW WITH WRITE XOR YEAR_MONTH ZEROFILL
LIBRARY MANUAL PARALLEL QUALIFY TABLESAMPLE
""".split())

STATEMENTS = (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Alter, exp.Drop, exp.Set, exp.Command)

# Statements that begin like this are SQL; other texts of the sources are not.
VERBS = r"(?:select|insert|update|delete|replace|alter|create|drop|set session|set transaction|set global|start transaction|truncate|grant|lock|analyze)\b"

# Only SQLite understands these.
SQLITE = re.compile(r"sqlite_|pragma|begin immediate|begin deferred|randomblob|julianday|raise\(abort|on conflict|indexed by|sync_data_size (?:before|on)|trigger if exists|create trigger|create index if not exists", re.I)

# The server's grammar takes them; sqlglot hands them on as a text that it does not read.
UNREAD = re.compile(
    r"^(?:set session transaction isolation level read committed|set transaction isolation level repeatable read"
    r"|start transaction(?: read write| with consistent snapshot, read only)|commit|rollback"
    r"|alter table sync_data drop constraint sync_data_size)$", re.I)


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


def reserved_names(tree):
    """Names without quotes that MySQL reserves. Words of the grammar are no names."""
    for identifier in tree.find_all(exp.Identifier):
        if not identifier.args.get("quoted") and identifier.name.upper() in RESERVED:
            yield identifier.name


def problems(statement, unique_keys):
    """What is wrong with one statement."""
    words = squeeze(re.sub(r"'(?:[^'\\]|''|\\.)*'|`(?:[^`]|``)*`", "''", statement)).lower()
    if words.startswith("replace "):
        yield "REPLACE deletes rows that nobody meant"
    if re.match(r"(?:insert|update|delete) ignore\b", words):
        yield "IGNORE drops what does not fit"
    if "on duplicate key update" in words:
        table = re.match(r"insert into (`(?:[^`]|``)*`|\S+)", squeeze(statement), re.I).group(1).strip("`").replace("``", "`")
        if unique_keys is not None and unique_keys.get(table.lower()) != 1:
            yield f"ON DUPLICATE KEY UPDATE on {table}, which has {unique_keys.get(table.lower(), 'no known number of')} unique keys"
    if UNREAD.match(words):
        return
    try:
        trees = sqlglot.parse(statement, dialect="mysql")
    except sqlglot.errors.SqlglotError as error:
        yield f"does not parse as MySQL: {squeeze(re.sub(chr(27) + r'.[0-9;]*m', '', str(error)))[:300]}"
        return
    if len(trees) != 1 or trees[0] is None:
        yield f"{len(trees)} statements in one"
        return
    # A misspelled verb is read as a name.
    if not isinstance(trees[0], STATEMENTS):
        yield "no statement that is known here"
        return
    if any(True for _ in trees[0].find_all(exp.Command)):
        yield "sqlglot does not read it: add it to UNREAD if MySQL's manual has it"
    for name in sorted(set(reserved_names(trees[0]))):
        yield f"{name} is reserved in MySQL 8.0: quote it, or take another name"


def literals(path):
    """The string literals of a Swift file that begin like SQL, with what is interpolated as a NUL."""
    text = path.read_text()
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    index = 0
    while (index := text.find('"', index)) >= 0:
        delimiter = '"""' if text.startswith('"""', index) else '"'
        index += len(delimiter)
        piece, depth = [], 0
        while index < len(text):
            if depth == 0 and text.startswith(delimiter, index):
                break
            if depth == 0 and delimiter == '"' and text[index] == "\n":
                break
            if depth == 0 and text.startswith("\\(", index):
                piece.append("\0")
                depth, index = 1, index + 2
                continue
            if depth > 0:
                # Strings within an interpolation are short, and hold no parentheses that do not match.
                depth += {"(": 1, ")": -1}.get(text[index], 0)
                index += 1
                continue
            if text[index] == "\\" and index + 1 < len(text):
                piece.append({"n": "\n"}.get(text[index + 1], text[index + 1]))
                index += 2
                continue
            piece.append(text[index])
            index += 1
        index += len(delimiter)
        literal = squeeze("".join(piece))
        if re.match(VERBS, literal):
            yield literal


def from_sources(folder):
    """Literals of the SQL layer: those that stand whole, and the beginnings of the others."""
    whole, beginnings = set(), {}
    for module in ("DataSyncSQL", "DataSyncMySQL"):
        for path in sorted((folder / module).rglob("*.swift")):
            if path.name == "Migration.swift":
                continue  # Its braces are filled in by the dialect; every statement of it is in the log.
            for literal in literals(path):
                if SQLITE.search(literal):
                    continue
                # What is put together from several texts is not whole either.
                beginning = literal.split("\0")[0].split("%@")[0].rstrip()
                beginnings.setdefault(beginning, path.name)
                if "\0" not in literal and "%@" not in literal:
                    whole.add(literal)
    return whole, beginnings


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--keys")
    parser.add_argument("--sources")
    parser.add_argument("--statements")
    options = parser.parse_args()
    logging.getLogger("sqlglot").setLevel(logging.ERROR)

    unique_keys = None
    if options.statements:
        sent = [line for line in pathlib.Path(options.statements).read_text().splitlines() if line.strip()]
    else:
        sent = [bytes.fromhex(line).decode("utf-8", "replace") for line in pathlib.Path(options.log).read_text().split()]
    if options.keys:
        rows = (line.split("\t") for line in pathlib.Path(options.keys).read_text().splitlines())
        unique_keys = {bytes.fromhex(name).decode().lower(): int(count) for name, count in rows}

    failures = []
    for statement in sorted(set(sent)):
        failures += [(problem, statement) for problem in problems(statement, unique_keys)]
    count = len(set(sent))

    if options.sources:
        # A list that is too short would prove little: nothing may be left over.
        whole, beginnings = from_sources(pathlib.Path(options.sources))
        squeezed = [squeeze(statement) for statement in sent]
        for literal in sorted(whole):
            failures += [(problem, literal) for problem in problems(literal, unique_keys)]
        only_mysql = re.compile(r"^set session (?:wait_timeout|max_execution_time) ", re.I)
        for beginning, file in sorted(beginnings.items()):
            if not only_mysql.match(beginning) and not any(statement.startswith(beginning) for statement in squeezed):
                failures.append((f"stands in {file}, but no test made the storage send it", beginning))
        fragments = len(beginnings)
        count = len(set(squeezed) | {literal for literal in whole})
        if len(set(squeezed)) < 100 or fragments < 40:
            failures.append((f"only {len(set(squeezed))} statements were sent and {fragments} found in the sources: something is not looked at", ""))

    for problem, statement in failures:
        print(f"check-sql: {problem}\n    {squeeze(statement)[:400]}", file=sys.stderr)
    print(f"check-sql: {count} statements checked, {len(failures)} problems")
    sys.exit(1 if failures else 0)


main()
