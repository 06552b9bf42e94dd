// Owns: attacks of a plain role on what outboxd trusts by its name: the journal, the publication, functions.
import Foundation
import RelayTesting
import Testing

private let ends = [PostgresServer.versions.first, PostgresServer.versions.last].compactMap(\.self)

/// A server with `m`, a plain role with a login, which may create schemas in each database.
private let servers = Dictionary(
  uniqueKeysWithValues: ends.map { version in
    (
      version,
      Result {
        let server = try PostgresServer(version: version, settings: ["max_replication_slots": "40"])
        try server.sql(
          """
          CREATE ROLE m LOGIN; CREATE ROLE installer LOGIN CREATEROLE; CREATE ROLE team LOGIN;
          CREATE ROLE outboxd LOGIN REPLICATION;
          """)
        return server
      }
    )
  })

/// A database with an outbox, where m has code that makes it a superuser whenever a mightier role runs it.
private final class Victim {
  let server: PostgresServer
  let name: String
  let path: String

  init(_ version: Int) throws {
    server = try #require(servers[version]).get()
    name = "v" + TestTools.uniqueName("").filter(\.isNumber)
    try server.sql("CREATE DATABASE \(name); GRANT CREATE ON DATABASE \(name) TO m, installer;")
    var configuration = RelayConfiguration(
      conninfo: server.conninfo(name), brokers: try KafkaCluster.shared().bootstrap,
      outboxes: "- {table: public.outbox, topic: hostile}")
    configuration.postgres = ["slot: \(name)", "publication: \(name)"]
    path = try configuration.write()
    try admin(
      """
      CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregatetype text, aggregateid text, type text,
        payload jsonb);
      CREATE TABLE witness (who name); GRANT INSERT ON witness TO PUBLIC; GRANT CREATE ON SCHEMA public TO m;
      """)
    try asM(
      """
      CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
      CREATE FUNCTION trap.spring() RETURNS boolean LANGUAGE plpgsql AS $$
      BEGIN
        IF current_user <> 'm' THEN
          INSERT INTO public.witness VALUES (current_user);
          BEGIN ALTER ROLE m SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
        END IF;
        RETURN true;
      END $$;
      CREATE FUNCTION trap.fire() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM trap.spring(); RETURN NEW; END $$;
      """)
  }

  @discardableResult
  func admin(_ text: String) throws -> String { try server.sql(text, database: name) }

  func asM(_ text: String) throws {
    try admin("SET SESSION AUTHORIZATION m; SET check_function_bodies = off; " + text)
  }

  func command(_ arguments: String...) throws -> ChildProcess.Result {
    try OutboxdProcess.command(arguments + ["--config", path])
  }

  func apply(as user: String = "postgres") throws -> ChildProcess.Result {
    try command("init", "--apply", "--as", server.adminConninfo(name) + " user=\(user)")
  }

  /// What `init` prints, in psql, by an administrator who stops at errors, and by one who does not.
  func runPrinted(_ arguments: String..., hasFaults: Bool, _ location: SourceLocation = #_sourceLocation)
    throws
  {
    let printed = try OutboxdProcess.command(["init", "--config", path] + arguments)
    #expect(printed.status == 0, "\(printed.errors)", sourceLocation: location)
    let stops: Bool
    do {
      try admin(printed.output)
      stops = false
    } catch { stops = true }
    #expect(stops == hasFaults, sourceLocation: location)
    try admin(
      "\\set ON_ERROR_STOP off\n"
        + printed.output.replacingOccurrences(of: "\\set ON_ERROR_STOP on\n", with: ""))
  }

  func expectUnharmed(_ location: SourceLocation = #_sourceLocation) throws {
    #expect(
      try admin("SELECT rolsuper FROM pg_roles WHERE rolname = 'm'; SELECT who FROM witness") == "f",
      sourceLocation: location)
    try server.sql("ALTER ROLE m NOSUPERUSER")
  }

  var slots: Int {
    get throws { try server.integer("SELECT count(*) FROM pg_replication_slots WHERE database = '\(name)'") }
  }
}

extension Integration {
  @Suite(.serialized) struct HostileSetUpTests {
    @Test(arguments: Squat.cases)
    func `a journal that is not to be trusted is refused by everything, and runs nobody's code`(
      squat: Squat, version: Int
    ) throws {
      let victim = try Victim(version)
      try victim.asM(squat.sql)
      if squat.takenOver {
        try victim.admin(
          "ALTER SCHEMA outboxd OWNER TO postgres; ALTER TABLE outboxd.checkpoint OWNER TO postgres; "
            + "ALTER TABLE outboxd.checkpoint_history OWNER TO postgres; ALTER TABLE outboxd.job OWNER TO postgres;"
        )
      }
      let applied = try victim.apply()
      #expect(applied.status == 1, "\(applied.output)\(applied.errors)")
      #expect(applied.errors.contains(squat.reason), "\(applied.errors)")
      #expect(
        applied.errors.contains("nothing was changed") && applied.errors.contains("RENAME TO"),
        "\(applied.errors)")
      try victim.expectUnharmed()
      let run = try victim.command("run")
      #expect(squat.isJournal ? run.status == 20 : run.status != 0, "\(run.status) \(run.errors)")
      #expect(!squat.isJournal || run.errors.contains(squat.reason.prefix(30)), "\(run.errors)")
      // They judge by the same statement: the others need not be tried by each of them.
      guard !squat.takenOver else { return try victim.expectUnharmed() }
      try victim.runPrinted(hasFaults: true)
      try victim.expectUnharmed()
      #expect(try victim.slots == 0)
      let check = try victim.command("check")
      #expect(check.status == 1, "\(check.output)")
      #expect(
        check.output.contains("error   security: ") && check.output.contains(squat.reason), "\(check.output)")
      for command in ["run", "status", "backfill"] {
        let result = try victim.command(command)
        #expect(result.status != 0, "\(command): \(result.output)\(result.errors)")
      }
      try victim.runPrinted("--remove", hasFaults: squat.isJournal)
      try victim.expectUnharmed()
    }

    @Test(arguments: ends)
    func `a journal of a superuser, of the relay's role, or of a role that may alter it is accepted`(
      version: Int
    ) throws {
      let victim = try Victim(version)
      func expectAccepted(_ owner: String, _ location: SourceLocation = #_sourceLocation) throws {
        let again = try victim.apply()
        #expect(
          again.status == 0 && !again.output.contains("created"), "\(again.errors)", sourceLocation: location)
        let check = try victim.command("check")
        #expect(
          check.output.contains("the journal belongs to trusted roles")
            && !check.output.contains("cannot be used"),
          "\(owner): \(check.output)", sourceLocation: location)
      }
      let first = try victim.apply()
      #expect(first.status == 0, "\(first.errors)")
      // From 16 on CREATEROLE is a power over the roles that it is a member of.
      if version >= 16 {
        try victim.admin("GRANT outboxd TO installer WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
      }
      defer { _ = try? victim.admin("REVOKE outboxd FROM installer") }
      // Another relay of this database.
      try victim.admin("DROP ROLE IF EXISTS second; CREATE ROLE second REPLICATION")
      defer { _ = try? victim.admin("DROP OWNED BY second CASCADE; DROP ROLE second") }
      for owner in ["second", "outboxd", "installer", "postgres"] {
        for object in ["SCHEMA", "TABLE checkpoint", "TABLE checkpoint_history", "TABLE job"] {
          let parts = object.split(separator: " ")
          let name = parts.count == 1 ? "outboxd" : "outboxd.\(parts[1])"
          try victim.admin("ALTER \(parts[0]) \(name) OWNER TO \(owner)")
        }
        try victim.admin(
          "GRANT USAGE ON SCHEMA outboxd TO outboxd; GRANT ALL ON ALL TABLES IN SCHEMA outboxd TO outboxd")
        try expectAccepted(owner)
      }
      try victim.admin("GRANT UPDATE (lsn) ON outboxd.checkpoint TO m; GRANT USAGE ON SCHEMA outboxd TO m")
      let check = try victim.command("check")
      #expect(check.output.contains("may be written to by \"m\""), "\(check.output)")
      try victim.expectUnharmed()
    }

    @Test(arguments: ends)
    func `a role whose journal the relay would refuse makes none`(version: Int) throws {
      let victim = try Victim(version)
      try victim.admin(
        "CREATE PUBLICATION \(victim.name) FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root)"
      )
      let refused = try victim.apply(as: "m")
      #expect(refused.status == 1, "\(refused.status) \(refused.errors)")
      #expect(refused.errors.contains("the schema outboxd belongs to role \"m\""), "\(refused.errors)")
      #expect(try victim.admin("SELECT count(*) FROM pg_namespace WHERE nspname = 'outboxd'") == "0")
    }

    @Test(arguments: ends)
    func `a journal that is made while it is looked for is not read`(version: Int) throws {
      let victim = try Victim(version)
      let printed = try victim.command("init").output.replacingOccurrences(
        of: "\\set ON_ERROR_STOP on\n", with: "")
      // Without the statement that makes it: there is none when the statements for the slot look for it.
      let parts = printed.components(separatedBy: "\n-- ")
      let without = parts.filter { !$0.hasPrefix("The checkpoints of outboxd") }.joined(separator: "\n-- ")
      #expect(parts.count > 5 && without.count < printed.count)
      try victim.admin("\\set ON_ERROR_STOP off\n" + without)
      #expect(try victim.slots == 0)
      // Refused as absent: not found out by reading it, which would be of what another role has made meanwhile.
      for step in ["No new slot", "The slot: "] {
        let statement = try #require(parts.first { $0.hasPrefix(step) })
        do {
          try victim.admin("-- " + statement)
          Issue.record("\(step): not refused")
        } catch { #expect("\(error)".contains("there is no table outboxd.checkpoint"), "\(error)") }
      }
      try victim.expectUnharmed()
    }

    @Test(arguments: ends)
    func `rights that default privileges give are taken back on what is made`(version: Int) throws {
      let victim = try Victim(version)
      try victim.admin(
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO team; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC"
      )
      let applied = try victim.apply()
      #expect(applied.status == 0, "\(applied.errors)")
      #expect(try victim.command("check").output.contains("error   security") == false)
    }

    @Test(arguments: ends)
    func `the files for the table touch nothing of another role's`(version: Int) throws {
      let victim = try Victim(version)
      func file(_ name: String) throws -> String {
        try String(contentsOfFile: "\(TestTools.repository)/sql/\(name).sql", encoding: .utf8)
      }
      try victim.admin("DROP TABLE outbox")
      try victim.asM(
        "CREATE FUNCTION public.outbox_create_partitions() RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()'"
      )
      #expect(throws: HarnessError.self) { try victim.admin(try file("02_outbox_partitioned")) }
      try victim.asM(
        """
        DROP FUNCTION public.outbox_create_partitions();
        CREATE FUNCTION trap.day(timestamptz) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql AS
          'BEGIN PERFORM trap.spring(); RETURN $1; END';
        CREATE TABLE public.outbox (id uuid, created_at timestamptz) PARTITION BY RANGE (trap.day(created_at));
        """)
      for name in ["01_outbox", "02_outbox_partitioned"] {
        #expect(throws: HarnessError.self) { try victim.admin(try file(name)) }
        try victim.expectUnharmed()
      }
      for name in ["01_outbox", "02_outbox_partitioned"] {
        try victim.admin("DROP TABLE outbox")
        for _ in 1...2 { try victim.admin(try file(name)) }
      }
      #expect(
        try victim.admin("SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass") == "9")
    }

    @Test(arguments: ends)
    func `nothing of another schema takes the place of what Postgres has`(version: Int) throws {
      let victim = try Victim(version)
      try victim.asM(
        """
        CREATE FUNCTION public.pg_create_logical_replication_slot(text, text) RETURNS TABLE (slot_name name, lsn pg_lsn)
          LANGUAGE sql AS 'SELECT $1::name, ''0/1''::pg_lsn WHERE trap.spring()';
        CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1 WHERE trap.spring()';
        CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT $1 WHERE trap.spring()';
        CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT trap.spring()';
        CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
        """)
      try victim.admin("ALTER DATABASE \(victim.name) SET search_path = public, pg_catalog")
      try victim.runPrinted(hasFaults: false)
      try victim.expectUnharmed()
      #expect(try victim.slots == 1)
      #expect(try victim.admin("SELECT count(*) FROM outboxd.checkpoint WHERE start_lsn = lsn") == "1")
      let check = try victim.command("check")
      #expect(!check.output.contains("error"), "\(check.output)")
      try victim.runPrinted("--remove", hasFaults: false)
      #expect(try victim.slots == 0)
      let applied = try victim.apply()
      #expect(applied.status == 0, "\(applied.errors)")
      try victim.expectUnharmed()
    }

    @Test(arguments: ends)
    func `a publication whose owner could empty it is refused by init, an error of check, a warning of run`(
      version: Int
    ) throws {
      let victim = try Victim(version)
      try victim.asM("CREATE PUBLICATION \(victim.name)")
      let refused = try victim.apply()
      #expect(refused.status == 1 && refused.errors.contains("belongs to role \"m\""), "\(refused.errors)")
      #expect(refused.errors.contains("OWNER TO outboxd"), "\(refused.errors)")
      try victim.runPrinted(hasFaults: true)
      #expect(try victim.admin("SELECT count(*) FROM pg_publication_tables") == "0")
      // Somebody puts the table in by hand.
      try victim.admin(
        "ALTER PUBLICATION \(victim.name) SET (publish = 'insert', publish_via_partition_root); "
          + "ALTER PUBLICATION \(victim.name) ADD TABLE outbox")
      let check = try victim.command("check")
      #expect(check.status == 1 && check.output.contains("error   security: publication"), "\(check.output)")
      let relay = try ChildProcess([try OutboxdProcess.binary(), "run", "--config", victim.path])
      try eventually("run warns: \(relay.errors)", within: 20) {
        relay.errors.contains("belongs to role") && relay.errors.contains("streaming")
      }
      relay.signal(SIGTERM)
      #expect(try relay.wait(seconds: 20) == 0)
      // Who owns all tables may take them out anyway.
      try victim.admin(
        "GRANT CREATE ON DATABASE \(victim.name) TO team; ALTER TABLE outbox OWNER TO team; ALTER PUBLICATION \(victim.name) OWNER TO team"
      )
      let accepted = try victim.apply()
      #expect(accepted.status == 0, "\(accepted.errors)")
      // A row filter would be evaluated by the relay's role: Postgres takes none that calls a user's function.
      #expect(throws: HarnessError.self) {
        try victim.admin("ALTER PUBLICATION \(victim.name) SET TABLE outbox WHERE (trap.spring())")
      }
    }
  }
}
