/// The tables of DataSync, as numbered steps. A step is never changed after a release; the next one is added.
///
/// MySQL commits around every definition of a table, so each statement of a step can be run again after a crash between
/// two of them.
struct Migration: Sendable {
    var number: Int
    /// Words in braces stand for what the dialect calls it.
    var statements: [String]

    /// The version of the tables that this library works with.
    static var latest: Int { self.all.count }

    static let settingName = "schema.version"

    static let all: [Migration] = [
        Migration(
            number: 1,
            statements: [
                """
                create table if not exists sync_config (
                  name {name} not null primary key,
                  value {text} not null,
                  version {bigint} not null default 1
                ) {table}
                """,
                """
                create table if not exists sync_server (
                  id {int} not null primary key,
                  name {name} not null,
                  status {name} not null,
                  public_key {name},
                  next_key {name},
                  cloud_keys {name},
                  join_digest {name},
                  join_expires {bigint} not null default 0,
                  epoch {int} not null default 1,
                  session {bigint} not null default 0,
                  nonce {name},
                  op {bigint} not null default 0,
                  version {name},
                  last_seen {bigint} not null default 0,
                  host {name},
                  host_before {name},
                  takeovers {int} not null default 0,
                  takeover_time {bigint} not null default 0
                ) {table}
                """,
                // Fixed-width columns for what is rewritten: a row that grows cannot be changed in place. An application's
                // NULL is taken as 0. Nobody but DataSync gives numbers, and none of them is negative.
                """
                create table if not exists sync_data (
                  id {id},
                  syn_id {bigint} default 0,
                  state {tinyint} not null default 0,
                  business_type {int} not null,
                  data_from_server_id {int} not null default 0,
                  data_to_server_id {int} not null default 0,
                  fail_num {tinyint} not null default 0,
                  result_of_send_business {tinyint} not null default 0,
                  reason {short},
                  create_time {bigint} not null default {now_ms},
                  data_from_client {tinyint},
                  uid {uid} not null default {uid_default},
                  data_from_detail {key} not null,
                  data_detail {text} not null,
                  constraint sync_data_syn_id check (syn_id is null or syn_id >= 0),
                  constraint sync_data_state check (state between 0 and 2){data_keys}
                ) {table}
                """,
                """
                create table if not exists sync_frontier (
                  id {tinyint} not null primary key,
                  frontier {bigint} not null
                ) {table}
                """,
                """
                create table if not exists sync_stream (
                  origin {int} not null,
                  epoch {int} not null,
                  business_type {int} not null,
                  last {bigint} not null,
                  primary key (origin, epoch, business_type)
                ) {table}
                """,
                """
                create table if not exists sync_batch (
                  epoch {int} not null,
                  business_type {int} not null,
                  first_syn {bigint} not null,
                  n {int} not null,
                  settled {int} not null default 0,
                  run {bigint} not null,
                  again {tinyint} not null default 0,
                  first_id {bigint} not null,
                  last_id {bigint} not null,
                  oldest {bigint} not null,
                  entries {blob} not null,
                  primary key (business_type, epoch, first_syn)
                ) {table}
                """,
                """
                create table if not exists sync_sent (
                  epoch {int} not null,
                  business_type {int} not null,
                  first_syn {bigint} not null,
                  n {int} not null,
                  settled {int} not null,
                  run {bigint} not null,
                  again {tinyint} not null default 0,
                  first_id {bigint} not null,
                  last_id {bigint} not null,
                  oldest {bigint} not null,
                  entries {blob} not null,
                  sent_at {bigint} not null,
                  primary key (business_type, epoch, first_syn)
                ) {table}
                """,
                """
                create table if not exists sync_receipt (
                  peer {int} not null,
                  epoch {int} not null,
                  business_type {int} not null,
                  first_syn {bigint} not null,
                  n {int} not null,
                  run {bigint} not null,
                  received_at {bigint} not null,
                  uids {blob} not null,
                  primary key (peer, epoch, business_type, first_syn)
                ) {table}
                """,
                """
                create table if not exists sync_uid (
                  uid {uid} not null primary key,
                  business_type {int} not null,
                  received_at {bigint} not null
                ) {table}
                """,
                """
                create table if not exists sync_position (
                  peer {int} not null,
                  epoch {int} not null,
                  business_type {int} not null,
                  number {bigint} not null,
                  fingerprint {bigint} not null,
                  reported {bigint} not null default 0,
                  primary key (peer, epoch, business_type)
                ) {table}
                """,
                """
                create table if not exists sync_send (
                  peer {int} not null,
                  business_type {int} not null,
                  epoch {int} not null,
                  number {bigint} not null,
                  fingerprint {bigint} not null,
                  confirmed_at {bigint} not null,
                  lag_ms {bigint} not null,
                  primary key (peer, business_type)
                ) {table}
                """,
                """
                create table if not exists sync_log_counter (
                  business_type {int} not null primary key,
                  last {bigint} not null
                ) {table}
                """,
                """
                create table if not exists sync_log_tail (
                  audience {int} not null,
                  business_type {int} not null,
                  last {bigint} not null,
                  primary key (audience, business_type)
                ) {table}
                """,
                """
                create table if not exists sync_log (
                  business_type {int} not null,
                  audience {int} not null,
                  log_seq {bigint} not null,
                  mark {bigint} not null,
                  scope {int} not null,
                  is_echo {tinyint} not null,
                  is_deletion {tinyint} not null,
                  origin {int} not null,
                  epoch {int} not null,
                  syn_id {bigint} not null,
                  uid {uid} not null,
                  data_to_server_id {int} not null,
                  create_time {bigint} not null,
                  data_from_client {tinyint},
                  data_from_detail {key} not null,
                  data_detail {text} not null,
                  primary key (business_type, audience, log_seq)
                ) {table}
                """,
                """
                create table if not exists sync_entity (
                  business_type {int} not null,
                  scope {int} not null,
                  entity {key} not null,
                  version {bigint} not null,
                  origin {int} not null,
                  home {int} not null,
                  audience {int} not null,
                  deleted {tinyint} not null,
                  primary key (business_type, scope, entity)
                ) {table}
                """,
                """
                create table if not exists sync_memo (
                  id {id},
                  receiver {int} not null,
                  sender {int} not null,
                  epoch {int} not null,
                  business_type {int} not null,
                  number {bigint} not null,
                  scope {int} not null,
                  origin {int} not null,
                  origin_epoch {int} not null,
                  syn_id {bigint} not null,
                  uid {uid} not null,
                  data_to_server_id {int} not null,
                  create_time {bigint} not null,
                  data_from_client {tinyint},
                  data_from_detail {key} not null,
                  data_detail {text},
                  disposition {tinyint} not null,
                  fail_num {tinyint} not null,
                  result_of_send_business {tinyint} not null,
                  reason {short},
                  tries {int} not null,
                  next_try {bigint} not null,
                  created {bigint} not null,
                  since {bigint} not null default 0,
                  version {bigint} not null,
                  needs {key},
                  constraint sync_memo_number unique (receiver, sender, epoch, business_type, number){memo_keys}
                ) {table}
                """,
                """
                create table if not exists sync_audit (
                  id {bigint} not null primary key,
                  time {bigint} not null,
                  actor {short} not null,
                  action {short} not null,
                  subject {short} not null,
                  digest {name} not null
                ) {table}
                """,
                """
                create table if not exists sync_person (
                  people {name} not null,
                  name {name} not null,
                  role {name} not null,
                  branches {text},
                  password {short} not null,
                  state {name} not null,
                  failures {int} not null default 0,
                  locked_until {bigint} not null default 0,
                  generation {bigint} not null default 1,
                  created {bigint} not null,
                  changed {bigint} not null,
                  last_login {bigint} not null default 0,
                  op {bigint} not null default 0,
                  primary key (people, name)
                ) {table}
                """,
                """
                create table if not exists sync_login (
                  id {name} not null primary key,
                  people {name} not null,
                  name {name} not null,
                  generation {bigint} not null,
                  digest {name} not null,
                  created {bigint} not null,
                  used {bigint} not null,
                  op {bigint} not null default 0
                ) {table}
                """,
                """
                create table if not exists sync_attempt (
                  people {name} not null,
                  source {name} not null,
                  level {bigint} not null,
                  time {bigint} not null,
                  op {bigint} not null default 0,
                  primary key (people, source)
                ) {table}
                """,
                """
                create table if not exists sync_audit_head (
                  id {tinyint} not null primary key,
                  last {bigint} not null,
                  digest {name} not null
                ) {table}
                """,
                "{index} sync_data_name on sync_data (business_type, data_from_detail)",
                "{index} sync_memo_entity on sync_memo (receiver, sender, business_type, data_from_detail)",
                "{index} sync_memo_due on sync_memo (receiver, disposition, next_try)",
                "{index} sync_memo_needs on sync_memo (receiver, needs)",
            ])
    ]

    func sql(for dialect: SQLDialect) -> [String] {
        // MySQL cannot create an index "if not exists": there they are part of the table.
        self.statements.filter { dialect.isSQLite || !$0.hasPrefix("{index}") }.map { statement in
            dialect.schemaWords.reduce(statement) { $0.replacing("{\($1.key)}", with: $1.value) }
        }
    }
}
