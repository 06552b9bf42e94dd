// Owns: attacks by files and by printed names, through the binary: what a job's row, a configuration that somebody else
// wrote, a secret's file and a table's name can bring about.
import Foundation
import Glibc
import RelayTesting
import Testing

extension Integration {
  @Suite struct HostileFileTests {
    private let nobody: uid_t = 65_534

    private func file(_ text: String, mode: mode_t = 0o600, owner: uid_t? = nil) throws -> String {
      let path = TestFolder.make("hostile") + "/outboxd.yaml"
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      chmod(path, mode)
      if let owner { #expect(chown(path, owner, owner) == 0) }
      return path
    }

    private func content(_ path: String) throws -> String {
      try String(contentsOfFile: path, encoding: .utf8)
    }

    /// A configuration that needs no server, with more properties.
    private func configuration(_ properties: String = "", conninfo: String = "dbname=x") -> String {
      "postgres: {conninfo: \"\(conninfo)\"}\nkafka:\n  properties:\n    bootstrap.servers: 127.0.0.1:1\n\(properties)"
    }

    // MARK: The database names no files

    @Test func `a job's row decides about no file, and the job goes on in its own exactly`() throws {
      let scene = try Scene(version: 15, initialize: false)
      let total = 180
      // An order of the rows, so that the job can go on within the table.
      try scene.server.sql(BackfillTests.number, database: "shop")
      try scene.server.sql(
        "SELECT workload.emit('orders', array_agg(i), \(total)) FROM generate_series(1, 9) i",
        database: "shop")
      try scene.workload.initialize(scene.configuration)
      let words = ["backfill", "--config", try scene.configuration.write()]
      let own = TestFolder.make("own") + "/events"
      let process = try ChildProcess(
        [try OutboxdProcess.binary()] + words + ["--rate", "50", "--to-file", own])
      func stored() throws -> Int {
        try scene.server.integer(
          "SELECT coalesce(max(events), 0) FROM outboxd.job WHERE position IS NOT NULL", database: "shop")
      }
      try eventually("a place is stored\n\(process.errors)", within: 60) { try stored() > 0 }
      process.signal(SIGINT)
      #expect(try process.wait(seconds: 30) == 130, "\(process.errors)")
      #expect(process.errors.contains(" --to-file \(own)\n"), "\(process.errors)")
      var status = stat()
      #expect(stat(own, &status) == 0 && status.st_mode & 0o777 == 0o600)

      let victim = try file("alias ls=ls\nhalf a li")
      let before = try content(victim)
      try scene.server.sql(
        "UPDATE outboxd.job SET request = jsonb_set(request, '{file}', to_jsonb('\(victim)' || E'\\n\\x1b[2J'))",
        database: "shop")
      let unnamed = try OutboxdProcess.command(words + ["--resume"])
      #expect(unnamed.status == 2 && unnamed.errors.contains("--to-file FILE"), "\(unnamed.errors)")
      #expect(unnamed.errors.contains("\(victim)\\n\\u001b[2J\""), "\(unnamed.errors)")
      #expect(!unnamed.errors.contains("\u{1B}"))
      // Also where the operator believes what the row says.
      let believed = try OutboxdProcess.command(words + ["--resume", "--to-file", victim])
      #expect(believed.status == 2, "\(believed.errors)")
      #expect(believed.errors.contains("is not the file that this job has written"), "\(believed.errors)")
      try scene.server.sql(
        "INSERT INTO outboxd.job (slot, command, request, position, events) SELECT slot, command, "
          + "jsonb_set(request, '{file}', to_jsonb('\(victim)'::text)), position, events FROM outboxd.job",
        database: "shop")
      for target in [victim, own] {
        let forged = try OutboxdProcess.command(words + ["--resume", "--to-file", target])
        #expect(forged.status == 2 && forged.errors.contains("is not the file"), "\(forged.errors)")
      }
      #expect(try content(victim) == before)
      #expect(access(victim + ".job", F_OK) != 0)
      #expect(!believed.errors.contains("To resume it"), "\(believed.errors)")
      try tables(scene, words, own)

      let job = try scene.server.integer("SELECT min(id) FROM outboxd.job", database: "shop")
      let result = try OutboxdProcess.command(
        words + ["--resume", "--job", "\(job)", "--to-file", own, "--rate", "100000"])
      #expect(result.status == 0, "\(result.errors)\(result.output)")
      let lines = try content(own).split(separator: "\n")
      #expect(Set(lines).count == total && lines.count < total + 60, "\(lines.count) of \(total)")
      #expect(access(own + ".job", F_OK) != 0)

      try disks(scene, words)
      try printed(scene)
    }

    /// The job's row, changed, goes to no other topic and reads no other table.
    private func tables(_ scene: Scene, _ words: [String], _ own: String) throws {
      let job = try scene.server.integer("SELECT min(id) FROM outboxd.job", database: "shop")
      let resume = words + ["--resume", "--job", "\(job)"]
      try scene.server.sql(
        """
        CREATE TABLE public.kept AS SELECT request FROM outboxd.job WHERE id = \(job);
        CREATE SCHEMA billing; CREATE TABLE billing.secret (LIKE public.outbox INCLUDING ALL);
        INSERT INTO billing.secret (id, aggregatetype, aggregateid, type, payload, version)
          VALUES (gen_random_uuid(), 'secret', '1', 'secret', '{}', 1);
        """, database: "shop")
      let oid = try scene.server.integer("SELECT 'billing.secret'::regclass::oid::int", database: "shop")
      let other = "[{\"oid\": \(oid), \"schema\": \"public\", \"table\": \"outbox\"}]"
      for change in [
        "jsonb_set(request, '{tables,0,oid}', '\(oid)')",
        "jsonb_set(request, '{tables,0,others}', '\(other)')",
      ] {
        try scene.server.sql(
          "UPDATE outboxd.job SET request = \(change) WHERE id = \(job)", database: "shop")
        let result = try OutboxdProcess.command(resume + ["--to-file", own])
        #expect(result.status == 1, "\(change): \(result.errors)")
        #expect(
          result.errors.contains("billing.secret (OID \(oid))")
            && result.errors.contains("Start the job again"),
          "\(result.errors)")
        #expect(try !content(own).contains("secret"))
        try scene.server.sql(
          "UPDATE outboxd.job SET request = (SELECT request FROM public.kept) WHERE id = \(job)",
          database: "shop")
      }
      try scene.server.sql(
        "UPDATE outboxd.job SET request = request || '{\"file\": null, \"topic\": \"__consumer_offsets\"}' "
          + "WHERE id = \(job)", database: "shop")
      let sent = try OutboxdProcess.command(resume)
      #expect(sent.status == 2 && sent.errors.contains(" --topic TOPIC"), "\(sent.errors)")
      try scene.server.sql(
        """
        UPDATE outboxd.job SET request = (SELECT request FROM public.kept) WHERE id = \(job);
        DROP TABLE public.kept; DROP SCHEMA billing CASCADE
        """, database: "shop")
    }

    private func disks(_ scene: Scene, _ words: [String]) throws {
      let all = words + ["--accept-duplicates", "--to-file"]
      let folder = TestFolder.make("full")
      // Through a pipe, since the limit is on every file.
      let full = try ChildProcess.run(
        ["sh", "-c", "(trap '' XFSZ; ulimit -f 0; exec \"$@\" 2>&1) | cat", "sh"]
          + [try OutboxdProcess.binary()] + all + [folder + "/events"])
      #expect(full.output.contains("cannot be written"), "\(full.output)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
      // As long as the row says that the job can go on, it can.
      try scene.server.sql(
        "ALTER TABLE outboxd.job ADD CONSTRAINT endless CHECK (finished_at IS NULL) NOT VALID",
        database: "shop")
      let path = folder + "/events"
      let ended = try OutboxdProcess.command(all + [path, "--set", "relay.drain_timeout=1s"])
      #expect(ended.status == 0 && ended.errors.contains("was not stored"), "\(ended.errors)")
      #expect(access(path + ".job", F_OK) == 0)
      try scene.server.sql("ALTER TABLE outboxd.job DROP CONSTRAINT endless", database: "shop")
      let job = try scene.server.integer("SELECT max(id) FROM outboxd.job", database: "shop")
      let resumed = try OutboxdProcess.command(
        words + ["--resume", "--job", "\(job)", "--to-file", path])
      #expect(resumed.status == 0, "\(resumed.errors)")
      #expect(access(path + ".job", F_OK) != 0)
    }

    /// A name in the catalog, with a line of its own, colours and a direction, is printed as what it is.
    private func printed(_ scene: Scene) throws {
      let name = #"U&"o\000Aok      kafka: fine\001B[31m\202Ex""#
      try scene.server.sql(
        "CREATE TABLE \(name) (LIKE public.outbox INCLUDING ALL); ALTER PUBLICATION outboxd ADD TABLE \(name);",
        database: "shop")
      let check = try OutboxdProcess.command(["check", "--config", try scene.configuration.write()])
      #expect(check.output.contains(#"o\nok      kafka: fine\u001b[31m\u202ex"#), "\(check.output)")
      #expect(!check.output.unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{202E}" })
      #expect(!check.output.contains("\nok      kafka: fine"))
      #expect(!check.errors.unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{202E}" })
      #expect(check.output.contains("security: no secret is on the command line"), "\(check.output)")
      // Nor does what an event holds, when its row is refused.
      try scene.server.sql(
        "DROP TABLE \(name); INSERT INTO public.outbox VALUES (gen_random_uuid(), U&'bad\\001B[2J\\202Etopic', "
          + "U&'a\\202E', U&'t\\009B', '{}', 1);", database: "shop")
      // Whatever librdkafka tells of itself holds no secret.
      scene.configuration.level = "debug"
      scene.configuration.properties["debug"] = "all"
      let relay = try OutboxdProcess(
        scene.configuration,
        environment: [
          "OUTBOXD_KAFKA_PROPERTIES_SASL_PASSWORD": "hunter2",
          "OUTBOXD_KAFKA_PROPERTIES_SSL_KEY_PASSWORD": "hunter2", "PGPASSWORD": "hunter2",
        ])
      #expect(try relay.process.wait(seconds: 30) == 23, "\(relay.tail)")
      #expect(relay.logText.contains("u001b[2J") && relay.logText.contains("u202etopic"), "\(relay.tail)")
      let steering = ["\u{1B}", "\u{9B}", "\u{202E}"].filter { relay.logText.contains($0) }
      #expect(steering.isEmpty)
      #expect(relay.log.contains { $0.level == "debug" } && !relay.logText.contains("hunter2"))
    }

    // MARK: Files of somebody else

    @Test(.enabled(if: getuid() == 0, "files of another user need root"))
    func `a configuration that somebody else owns or may write is refused by every command`() throws {
      let foreign = try file(configuration(), owner: nobody)
      let open = try file(configuration(), mode: 0o666)
      let group = try file(configuration(), mode: 0o660)
      for command in [["config"], ["check"], ["init"], ["status"], ["run"], ["replay", "--from", "1h"]] {
        for (path, remedy) in [
          (foreign, "chown root \(foreign)"), (open, "chmod go-w \(open)"), (group, "chmod go-w \(group)"),
        ] {
          let result = try OutboxdProcess.command(command + ["--config", path], seconds: 20)
          #expect(result.status == 78 && result.output.isEmpty, "\(command): \(result.errors)")
          #expect(
            result.errors.hasPrefix("\(path): the file ") && result.errors.contains(remedy),
            "\(result.errors)")
        }
      }
      // Also where nobody has named it.
      let folder = (foreign as NSString).deletingLastPathComponent
      let here = try ChildProcess.run(
        ["sh", "-c", "cd \"$1\" && exec \"$2\" config", "sh", folder, try OutboxdProcess.binary()])
      #expect(here.status == 78 && here.errors.contains("chown root outboxd.yaml"), "\(here.errors)")
      // Root's file, and the own one, are everybody's good configuration.
      for (mode, owner) in [(0o644, 0), (0o600, nobody)] as [(mode_t, uid_t)] {
        let good = try file(configuration(), mode: mode, owner: owner)
        let result = try ChildProcess.run(
          [
            "setpriv", "--reuid", "\(nobody)", "--clear-groups", try OutboxdProcess.binary(), "config",
            "--config", good,
          ])
        #expect(result.status == 0, "\(result.errors)")
      }
    }

    @Test func `no command loads or runs what a configuration names before there is a connection`() throws {
      let folder = TestFolder.make("code")
      let mark = folder + "/mark"
      try Data(
        """
        #include <fcntl.h>
        __attribute__((constructor)) static void ran(void) { open("\(mark)", O_CREAT | O_WRONLY, 0600); }
        """.utf8
      ).write(to: URL(fileURLWithPath: folder + "/code.c"))
      let library = folder + "/code.so"
      try ChildProcess.check(["cc", "-shared", "-fPIC", "-o", library, folder + "/code.c"])
      let named = try file("\(library)\n")
      let good = try file(configuration())
      let ways: [(words: [String], environment: [String: String])] = [
        (["--config", try file(configuration("    plugin.library.paths: \(library)\n"))], [:]),
        (["--config", try file(configuration("    plugin.library.paths_file: \(named)\n"))], [:]),
        (["--config", good, "--set", "kafka.properties.plugin.library.paths=\(library)"], [:]),
        (["--config", good], ["OUTBOXD_KAFKA_PROPERTIES_PLUGIN_LIBRARY_PATHS": library]),
      ]
      for way in ways {
        for command in ["config", "run"] {
          let result = try OutboxdProcess.command(
            [command] + way.words, environment: way.environment, seconds: 20)
          #expect(result.status == 78, "\(way): \(result.errors)")
          #expect(result.errors.contains("plugin.library.paths must not be set"), "\(result.errors)")
        }
      }
      let keytab = try file("")
      let kinit = try file(
        configuration(
          "    security.protocol: sasl_plaintext\n    sasl.mechanism: GSSAPI\n"
            + "    sasl.kerberos.kinit.cmd: \"touch \(mark)\"\n    sasl.kerberos.keytab: \(keytab)\n"))
      for command in [["config"], ["init"]] {
        let result = try OutboxdProcess.command(command + ["--config", kinit])
        #expect(result.errors.contains("sasl.kerberos.kinit.cmd lets librdkafka run"), "\(result.errors)")
      }
      let engine = try file(
        configuration("    ssl.engine.location: \(library)\n    security.protocol: ssl\n"))
      let loaded = try OutboxdProcess.command(["config", "--config", engine])
      #expect(
        loaded.status == 0 || loaded.errors.contains("ssl.engine.location is not a property"),
        "\(loaded.errors)")
      #expect(access(mark, F_OK) != 0)
    }

    // MARK: Secrets

    @Test func `a password file that is a pipe, a folder or others' to write is refused at once`() throws {
      let pipe = TestFolder.make("fifo") + "/fifo"
      mkfifo(pipe, 0o600)
      let writable = try file("secret", mode: 0o666)
      for (path, reason) in [
        (pipe, "is a named pipe"), (TestFolder.make("folder"), "is a directory"),
        (writable, "chmod go-w \(writable)"),
      ] {
        for text in [
          configuration().replacingOccurrences(of: "\"}", with: "\", password_file: \(path)}"),
          configuration("    sasl.password_file: \(path)\n"),
        ] {
          let result = try OutboxdProcess.command(["check", "--config", try file(text)], seconds: 10)
          #expect(result.status == 78 && result.errors.contains(reason), "\(result.errors)")
        }
      }
      let fifoConfiguration = try OutboxdProcess.command(["config", "--config", pipe], seconds: 10)
      #expect(fifoConfiguration.status == 78)
    }

    @Test func `a secret that others can read is warned of, and not shown`() throws {
      func warning(_ words: [String]) throws -> String {
        let result = try OutboxdProcess.command(["config"] + words)
        #expect(
          result.status == 0 && !(result.output + result.errors).contains("hunter2"), "\(result.errors)")
        return result.errors
      }
      let good = ["--config", try file(configuration())]
      let line = "every user of the machine can see a secret on the command line"
      #expect(try warning(good).isEmpty)
      #expect(try warning(good + ["--set", "postgres.conninfo=host=h password=hunter2"]).contains(line))
      #expect(try warning(good + ["--set", "postgres.conninfo=postgres://u:hunter2@h/d"]).contains(line))
      #expect(try warning(good + ["--set", "kafka.properties.sasl.password=hunter2"]).contains(line))
      for text in [
        configuration(conninfo: "host=h password=hunter2"), configuration("    sasl.password: hunter2\n"),
      ] {
        let path = try file(text, mode: 0o644)
        let readable = try warning(["--config", path])
        #expect(readable.contains("holds a secret") && readable.contains("chmod 600 \(path)"), "\(readable)")
        chmod(path, 0o600)
        #expect(try warning(["--config", path]).isEmpty)
      }
      // What the environment holds does not stand in the file.
      let variable = try file(configuration(conninfo: "host=h password=${SECRET}"), mode: 0o644)
      let result = try OutboxdProcess.command(
        ["config", "--config", variable], environment: ["SECRET": "hunter2"])
      #expect(result.status == 0 && result.errors.isEmpty, "\(result.errors)")
    }
  }
}
