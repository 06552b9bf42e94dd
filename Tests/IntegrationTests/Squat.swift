// Owns: what a plain role puts into the place of the journal, each with the fault that it must be refused for.
// Must not know: who refuses it.
import Foundation
import RelayTesting
import Testing

/// A schema outboxd that is not the relay's.
struct Squat: CustomTestStringConvertible {
  var testDescription: String
  /// By m.
  var sql: String
  /// By an administrator, who trusts it.
  var takenOver = false
  var reason: String
  /// There is a relation outboxd.checkpoint.
  var isJournal = true

  static let tables = """
    CREATE SCHEMA outboxd;
    CREATE TABLE outboxd.checkpoint (slot text NOT NULL PRIMARY KEY, lsn pg_lsn NOT NULL, snapshot text,
      snapshot_lsn pg_lsn, system_identifier text NOT NULL, timeline bigint NOT NULL, publication text,
      start_lsn pg_lsn, start_snapshot text, updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE outboxd.checkpoint_history (slot text NOT NULL, lsn pg_lsn NOT NULL, snapshot text,
      snapshot_lsn pg_lsn, system_identifier text NOT NULL, timeline bigint NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (slot, recorded_at));
    CREATE TABLE outboxd.job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, slot text NOT NULL,
      command text NOT NULL, request jsonb NOT NULL, position text, events bigint NOT NULL DEFAULT 0,
      started_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
      finished_at timestamptz);
    """
  static let grants =
    "GRANT ALL ON SCHEMA outboxd TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA outboxd TO PUBLIC;"

  static let all = [
    Squat(
      testDescription: "a table with a trigger",
      sql: tables + "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON outboxd.checkpoint FOR EACH ROW "
        + "EXECUTE FUNCTION trap.fire();" + grants, reason: "the schema outboxd belongs to role \"m\""),
    Squat(
      testDescription: "a view that calls a function",
      sql: tables + "ALTER TABLE outboxd.checkpoint RENAME TO real; CREATE VIEW outboxd.checkpoint AS "
        + "SELECT * FROM outboxd.real WHERE trap.spring();" + grants,
      reason: "the schema outboxd belongs to role \"m\""),
    Squat(
      testDescription: "an empty schema", sql: "CREATE SCHEMA outboxd;" + grants,
      reason: "the schema outboxd belongs to role \"m\"", isJournal: false),
    Squat(
      testDescription: "a trusted table with a trigger",
      sql: tables + "CREATE TRIGGER t BEFORE INSERT ON outboxd.checkpoint EXECUTE FUNCTION trap.fire();",
      takenOver: true, reason: "outboxd.checkpoint, which belongs to role \"postgres\", has a trigger"),
    Squat(
      testDescription: "a trusted table with a rule",
      sql: tables + "CREATE RULE r AS ON INSERT TO outboxd.job DO ALSO SELECT trap.spring();",
      takenOver: true,
      reason: "outboxd.job, which belongs to role \"postgres\", has a rule"),
    Squat(
      testDescription: "a trusted table with a policy",
      sql: tables
        + "ALTER TABLE outboxd.checkpoint ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON outboxd.checkpoint "
        + "USING (trap.spring());", takenOver: true, reason: "has row security"),
    Squat(
      testDescription: "a trusted table with a constraint that calls a function",
      sql: tables + "ALTER TABLE outboxd.checkpoint ADD CHECK (trap.spring());", takenOver: true,
      reason: "outboxd.checkpoint, which belongs to role \"postgres\", uses a function, operator or type"),
    Squat(
      testDescription: "a trusted table with a default that calls a function",
      sql: tables + "ALTER TABLE outboxd.checkpoint_history ADD COLUMN x boolean DEFAULT trap.spring();",
      takenOver: true,
      reason: "outboxd.checkpoint_history, which belongs to role \"postgres\", uses a function"),
    Squat(
      testDescription: "a trusted table with a column of a domain",
      sql: tables + "CREATE DOMAIN trap.place AS text CHECK (trap.spring()); "
        + "ALTER TABLE outboxd.job ALTER COLUMN position TYPE trap.place;",
      takenOver: true, reason: "outboxd.job, which belongs to role \"postgres\", uses a function"),
    Squat(
      testDescription: "a trusted table on which everybody may create triggers",
      sql: tables + "GRANT TRIGGER ON outboxd.checkpoint TO PUBLIC;", takenOver: true,
      reason: "lets others create triggers on it"),
    Squat(
      testDescription: "a trusted schema in which everybody may create", sql: tables + grants,
      takenOver: true,
      reason: "every role may create objects in the schema outboxd"),
    Squat(
      testDescription: "a trusted table with a foreign key to it",
      sql: tables
        + "CREATE TABLE trap.child (slot text REFERENCES outboxd.checkpoint ON DELETE CASCADE);",
      takenOver: true,
      reason: "another table has one to it"),
    Squat(
      testDescription: "a trusted table with statistics",
      sql: tables
        + "CREATE STATISTICS trap.s ON slot, timeline FROM outboxd.checkpoint;", takenOver: true,
      reason: "has extended statistics"),
    Squat(
      testDescription: "a trusted table to which everybody may have foreign keys",
      sql: tables + "GRANT REFERENCES (slot) ON outboxd.checkpoint TO PUBLIC;", takenOver: true,
      reason: "lets others create triggers on it"),
    Squat(
      testDescription: "a trusted table with a child of m's",
      sql: tables + "CREATE TABLE trap.child () INHERITS (outboxd.checkpoint);", takenOver: true,
      reason: "is not an ordinary table"),
  ]

  static let cases = all.flatMap { squat in
    [PostgresServer.versions.first, PostgresServer.versions.last].compactMap { $0.map { (squat, $0) } }
  }
}
