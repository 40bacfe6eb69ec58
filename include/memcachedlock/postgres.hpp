// PostgreSQL through libpqxx: which of its errors are a conflict, transactions that keep locks
// until their end, and a fence in the database. Only programs that include this header need
// libpqxx (6.4 or later, 7). Writers in front of it, for example:
//
//   auto write = with_zlock<PostgresConflict>(client, key_of_page, [&](const Page& page) {
//     pqxx::transaction<pqxx::serializable> work(connection);
//     ...
//     work.commit();
//   });
//
// which waits for its turn before it has a transaction, so that waiting costs the database nothing.
#pragma once

#include "memcachedlock/detail/export.hpp"

#include <pqxx/pqxx>
#include <string>

#include "memcachedlock/detail/fence.hpp"
#include "memcachedlock/detail/plain_text.hpp"
#include "memcachedlock/detail/postgres.hpp"
#include "memcachedlock/fencing_token.hpp"
#include "memcachedlock/transaction.hpp"
#include "memcachedlock/zlock.hpp"

namespace memcachedlock {

/// What PostgreSQL throws when another transaction was faster: `could not serialize access` and
/// `deadlock detected`. Not pqxx::in_doubt_error: whether that was committed is for its caller to
/// find out.
using PostgresConflict = AnyOf<pqxx::serialization_failure, pqxx::deadlock_detected>;

/// A SERIALIZABLE transaction with locks, made with a pqxx::connection, which it uses alone.
/// PostgreSQL fixes what a transaction sees at its first statement: take the locks before it.
using PostgresTransaction =
    LockedTransaction<pqxx::transaction<pqxx::serializable>, PostgresConflict>;

/// Creates the table that fence() uses, unless it is there. One statement, which any number of
/// processes may run at the same time: `CREATE TABLE IF NOT EXISTS` alone may fail then.
inline constexpr const char* postgres_fence_table =
    "DO $$BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('memcachedlock_fence', 0));"
    " CREATE TABLE IF NOT EXISTS memcachedlock_fence"
    " (key text PRIMARY KEY, token text COLLATE \"C\" NOT NULL); END$$";

/// Within `work`, before its writes: lets nobody commit after a later holder of `key`. One
/// statement. Throws LeaseLost when one has written already; `work` must then be aborted. Two
/// holders that write at one time conflict, and one of them gets a PostgresConflict. A token of
/// nobody ({0, 0}, as code that runs unlocked has it) is let through: then only the database's own
/// transactions protect the data. Any bytes are a key; in the table, those that are not printable
/// ASCII stand as `\xHH`, and a long key as its digest.
///
/// Where a row has one writer's key, a column of its own is cheaper, and needs no other table:
///
///   UPDATE pages SET text = $1, token = $2 WHERE id = $3 AND token <= $2  -- 0 rows: too late
///
/// with `token text COLLATE "C" NOT NULL DEFAULT ''` and FencingToken::to_string().
inline void fence(pqxx::transaction_base& work, const std::string& key, const FencingToken& token) {
  if (!token) return;
  const std::string text = token.to_string();
  const pqxx::result done =
      detail::exec_params(work, detail::fence_statement, detail::database_key(key), text);
  if (done.affected_rows() == 1) return;
  detail::refuse_late_writer(key, text);
}

}  // namespace memcachedlock
