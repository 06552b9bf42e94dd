// Owns: the table of all commands. A new command or option is a line here; help, completions and parsing
// follow.
// Must not know: how a command does its work.
import PostgresSource
import RelayCore

enum CommandTable {
  static let all: [CommandDescription] = [
    run, initialize, check, status, replay, backfill, recover, skip, slot, config, demo, completions, version,
    help,
    mockBroker,
  ]

  static var visible: [CommandDescription] { all.filter { !$0.isHidden } }

  static func named(_ name: String) -> CommandDescription? { all.first { $0.name == name } }

  /// What every command takes that reads the configuration.
  static let configurationOptions = [
    CommandOption(
      name: "config", short: "c", value: "FILE", isFile: true,
      help: "The configuration file. Default: ./outboxd.yaml, then /etc/outboxd/outboxd.yaml."),
    CommandOption(
      name: "set", value: "KEY=VALUE", isRepeatable: true,
      help: "Overrides one key, as in --set postgres.slot=orders. May be repeated."),
    CommandOption(
      name: "log-level", value: "LEVEL", choices: Log.Level.allCases.map(\.name),
      help: "Overrides log.level."),
    CommandOption(
      name: "log-format", value: "FORMAT", choices: Log.Format.allCases.map(\.rawValue),
      help: "Overrides log.format."),
  ]

  /// Which events a replay or backfill sends, where to, and how fast.
  private static let sendingOptions = [
    CommandOption(
      name: "outbox", value: "SCHEMA.TABLE", isRepeatable: true, help: "Only events of this outbox."),
    CommandOption(
      name: "aggregate-type", value: "TEXT", isRepeatable: true, help: "Only of this aggregate type."),
    CommandOption(name: "aggregate-id", value: "ID", isRepeatable: true, help: "Only of this aggregate."),
    CommandOption(name: "type", value: "TEXT", isRepeatable: true, help: "Only events of this type."),
    CommandOption(
      name: "id", value: "ID", isRepeatable: true, help: "Only this event. These five may be repeated."),
    CommandOption(name: "topic", value: "NAME", help: "Publish to this topic instead of the outbox's."),
    CommandOption(
      name: "to-file", value: "FILE", isFile: true,
      help: "Write JSON lines to a new file instead of Kafka; - is standard output."),
    CommandOption(name: "rate", value: "NUMBER", help: "At most this many events per second."),
    CommandOption(name: "dry-run", help: "Read and count, and send nothing."),
  ]

  static let jsonOption = CommandOption(name: "json", help: "Print JSON, for machines.")

  private static let run = CommandDescription(
    name: RunCommand.name, summary: "Relay committed outbox rows to Kafka until stopped.",
    details: """
      Streams from the replication slot, publishes each row as a CloudEvents event, and moves the slot on
      when Kafka has acknowledged. A second copy waits as standby. SIGTERM or SIGINT: stop reading, wait for
      acknowledgements, confirm, end. A second signal ends at once.
      """,
    options: configurationOptions,
    examples: [
      CommandExample(command: "outboxd run", meaning: "with ./outboxd.yaml"),
      CommandExample(
        command: "outboxd run --config /etc/outboxd/orders.yaml --log-format json",
        meaning: "as a service runs it"),
      CommandExample(
        command: "OUTBOXD_POSTGRES_CONNINFO=... OUTBOXD_KAFKA_PROPERTIES_BOOTSTRAP_SERVERS=... outboxd run",
        meaning: "without a file"),
    ],
    exitCodes: Array(10...25) + [130],
    run: { invocation throws(RelayError) in try RunCommand.run(invocation) })

  private static let initialize = CommandDescription(
    name: "init", summary: "Print, or apply, the SQL that the database needs.",
    details: """
      Publication, replication slot, journal table, role and grants, for the tables in the configuration.
      Prints SQL for a DBA to read; --apply runs it and leaves alone what exists already. It touches only this
      relay's own objects: it refuses a publication with other tables, a slot of another database and a
      schema outboxd that another program made.
      """,
    options: configurationOptions + [
      CommandOption(name: "apply", help: "Run the SQL instead of printing it."),
      CommandOption(
        name: "as", value: "CONNINFO",
        help:
          "With --apply: connect with this conninfo, as a role that may create objects."
      ),
      CommandOption(
        name: "remove", help: "Print the SQL that removes this relay and leaves other relays alone."),
      CommandOption(
        name: "role", value: "NAME",
        help: "The role that outboxd connects as. Default: the user of the conninfo."),
    ],
    examples: [
      CommandExample(command: "outboxd init > outboxd.sql", meaning: "SQL to review"),
      CommandExample(
        command: "outboxd init --apply --as 'dbname=orders user=postgres'",
        meaning: "as a role that may create objects"),
    ],
    exitCodes: [1, 75, 77, 130],
    run: { invocation throws(RelayError) in try InitCommand.run(invocation) })

  private static let check = CommandDescription(
    name: "check", summary: "Examine configuration, Postgres, Kafka, tables, topics and security.",
    details: """
      Prints one line for each finding, and with each fault the SQL or command that corrects it. The lines "security" say
      what files, roles, tables, connections and topics expose.
      """,
    options: configurationOptions + [
      jsonOption, CommandOption(name: "strict", help: "Exit with 1 for warnings, too."),
    ],
    examples: [
      CommandExample(command: "outboxd check", meaning: "before the first run, and after each change"),
      CommandExample(command: "outboxd check --strict --json", meaning: "for a pipeline"),
    ],
    exitCodes: [1],
    run: { invocation throws(RelayError) in try CheckCommand.run(invocation) })

  private static let status = CommandDescription(
    name: "status", summary: "Show the slot, the checkpoints and the lags.",
    details: """
      Asks the database and, if it answers, the running outboxd's admin server: slot, journal, from where a
      replay is possible, how much WAL is held and for how long it can be, unfinished replays and backfills.
      """,
    options: configurationOptions + [
      jsonOption,
      CommandOption(name: "watch", short: "w", help: "Print again every two seconds, until interrupted."),
    ],
    examples: [
      CommandExample(command: "outboxd status", meaning: "active or standby, and how far"),
      CommandExample(command: "outboxd status --watch", meaning: "while a backlog drains"),
    ],
    exitCodes: [1, 75, 77],
    run: { invocation throws(RelayError) in try StatusCommand.run(invocation) })

  private static let replay = CommandDescription(
    name: "replay", summary: "Publish a range of events again, beside the running relay.",
    details: """
      From the WAL where the anchor slot still holds the range (replay.window): exactly its events, in commit
      order. From the rows of the tables otherwise: all of its events, and others around it. Ids, keys,
      attributes and bytes are those of the first delivery; the header outboxd-replay marks the record.
      The relay and its slot are not touched. Ctrl-C stops cleanly; --resume continues.
      FROM and TO: an LSN (0/16B3748), an event's sequence, a time with its zone (2026-11-21T10:00:00Z), or
      how long ago (15m, 2h, 3d). Both ends are included.
      """,
    options: configurationOptions + [
      CommandOption(name: "from", value: "LSN|TIME", help: "Where the range begins."),
      CommandOption(
        name: "to", value: "LSN|TIME", help: "Where it ends. Default: what is published now."),
      CommandOption(
        name: "source", value: "SOURCE", choices: ReplayOrigin.allCases.map(\.rawValue),
        help: "What to read. Default: wal where that has the range."),
    ] + sendingOptions + [
      CommandOption(name: "resume", help: "Resume the replay that was interrupted last."),
      CommandOption(
        name: "job", value: "NUMBER",
        help: "With --resume: resume this one; give --to-file and --topic again."),
      jsonOption,
    ],
    examples: [
      CommandExample(command: "outboxd replay --from 2h --dry-run", meaning: "what would be sent"),
      CommandExample(
        command: "outboxd replay --from 2026-11-21T10:00:00Z --to 2026-11-21T10:30:00Z --aggregate-id 4711",
        meaning: "half an hour of one aggregate"),
      CommandExample(
        command: "outboxd replay --from 0/16B3748 --topic orders.repair --rate 500",
        meaning: "to another topic, at a limited rate"),
      CommandExample(
        command: "outboxd replay --from 15m --to-file - | jq .topic", meaning: "to inspect them"),
    ],
    exitCodes: [1, 10, 14, 15, 20, 23, 24, 26, 75, 77, 130],
    run: { invocation throws(RelayError) in try ReplayCommand.run(invocation) })

  private static let slot = CommandDescription(
    name: "slot", summary: "Show the replication slots, or drop the anchor.",
    details: """
      show: the slot of the stream, the anchor that keeps WAL for the replay window, and those of replays that
      run now. drop-anchor: lets the anchor's WAL go, and with it what could be replayed from it; needed before
      pg_upgrade. A running outboxd with a replay.window makes a new one.
      """,
    arguments: [
      CommandArgument(
        name: "ACTION", isRequired: true, choices: SlotCommand.Action.allCases.map(\.rawValue),
        help: "show or drop-anchor.")
    ],
    options: configurationOptions + [jsonOption],
    examples: [
      CommandExample(command: "outboxd slot show", meaning: "names, positions, WAL held"),
      CommandExample(command: "outboxd slot drop-anchor", meaning: "before pg_upgrade, or to free its WAL"),
    ],
    exitCodes: [1, 75, 77],
    run: { invocation throws(RelayError) in try SlotCommand.run(invocation) })

  private static let backfill = CommandDescription(
    name: "backfill",
    summary: "Publish the rows from before the slot, or from before an outbox was added.",
    details: """
      Every row that the stream does not have, in order for each key, without a gap between both. The WAL
      tells updated rows from new ones; rows that it cannot tell are published too, and counted.
      Creates the slot if there never was one. Best before the first run: beside a running relay an
      aggregate's older events arrive after its newer ones. The events have no sequence. Rows that were
      deleted cannot be published. Ctrl-C stops cleanly; --resume continues.
      """,
    options: configurationOptions + sendingOptions + [
      CommandOption(
        name: "accept-duplicates",
        help: "Publish every row that the slot will not send, including those published before."),
      CommandOption(name: "resume", help: "Resume the backfill that was interrupted last."),
      CommandOption(
        name: "job", value: "NUMBER",
        help: "With --resume: resume this one; give --to-file and --topic again."),
      jsonOption,
    ],
    examples: [
      CommandExample(command: "outboxd backfill --dry-run", meaning: "how many, and to which topics"),
      CommandExample(command: "outboxd backfill --rate 2000", meaning: "at a limited rate"),
      CommandExample(
        command: "outboxd backfill --outbox billing.outbox",
        meaning: "the earlier rows of an outbox that was added"),
      CommandExample(command: "outboxd backfill --resume", meaning: "after an interruption"),
    ],
    exitCodes: [1, 20, 22, 23, 24, 75, 77, 130],
    run: { invocation throws(RelayError) in try BackfillCommand.run(invocation) })

  private static let recover = CommandDescription(
    name: "recover", summary: "Repair a gap: publish what may have been skipped.",
    details: """
      For a relay that halted because the slot was moved, dropped or lost, the server restored or failed
      over, the publication changed, or the stream cannot be read: it reads it as outboxd run would. Says
      what is in doubt and how it repairs it: the checkpoint goes back where the stream still has everything,
      else the rows of the tables are published, in order for each key, and the stream continues after them.
      Nothing is lost; duplicates have the same id. Rows that were deleted cannot be published.
      After an interruption run it again.
      """,
    options: configurationOptions + [
      CommandOption(name: "dry-run", help: "Show what it would do, count the rows, and change nothing."),
      CommandOption(
        name: "since", value: "TIME",
        help: "From the tables, only rows since this time, by their time column. At your own risk."),
      CommandOption(name: "tables", help: "Publish from the tables, even if no gap is found."),
      CommandOption(name: "adopt", help: "Publish nothing: give up the events in doubt."),
      CommandOption(
        name: "yes-this-is-the-original",
        help: "This server is not a copy, although it looks like one: publish, and let outboxd run."),
      CommandOption(name: "rate", value: "NUMBER", help: "At most this many events per second."),
      jsonOption,
    ],
    examples: [
      CommandExample(command: "outboxd recover --dry-run", meaning: "what is in doubt"),
      CommandExample(command: "outboxd recover && outboxd run", meaning: "repair it, and run"),
    ],
    exitCodes: [1, 12, 17, 18, 19, 20, 22, 23, 24, 75, 77, 130],
    run: { invocation throws(RelayError) in try RecoverCommand.run(invocation) })

  private static let skip = CommandDescription(
    name: "skip", summary: "Give up one transaction that cannot be published.",
    details: """
      For a relay that halted at a transaction that cannot be corrected. All events of the transaction are
      given up: they are written to a file first, as JSON lines, and a row of outboxd.job keeps the reason.
      Then the checkpoint moves past the transaction. outboxd must be stopped. Refused while an earlier
      transaction with events is not acknowledged. Kafka may have those of its events that were sent before
      the relay halted.
      A line has the table, the commit LSN, the index and the commit time of a row, each column as Postgres'
      text (bytea as \\x and hexadecimal digits; bytes that are not UTF-8 as base64), and the Kafka record
      that the row would become, or the reason why it cannot.
      """,
    options: configurationOptions + [
      CommandOption(
        name: "lsn", value: "LSN", help: "The LSN of the transaction's commit, as outboxd run names it."),
      CommandOption(
        name: "reason", value: "TEXT", help: "Why it is given up. Required; outboxd.job keeps it."),
      CommandOption(
        name: "to-file", value: "FILE", isFile: true,
        help: "A new file for the events. Default: ./outboxd-skipped-LSN.jsonl."),
      CommandOption(name: "dry-run", help: "Read the transaction and name its events; change nothing."),
      jsonOption,
    ],
    examples: [
      CommandExample(
        command: "outboxd skip --lsn 0/16B3748 --reason 'INC-42: unreadable topic' --dry-run",
        meaning: "what would be given up"),
      CommandExample(
        command: "outboxd skip --lsn 0/16B3748 --reason 'INC-42: unreadable topic' && outboxd run",
        meaning: "give it up, and run"),
    ],
    exitCodes: [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 75, 77, 130],
    run: { invocation throws(RelayError) in try SkipCommand.run(invocation) })

  private static let config = CommandDescription(
    name: "config", summary: "Print the effective configuration, without secrets.",
    details: """
      File, environment and flags together, as YAML. Connects to nothing. Faults are printed as
      file:line:column: message, all of them.
      """,
    options: configurationOptions + [
      CommandOption(name: "schema", help: "Print the JSON Schema of the file, for editors."),
      CommandOption(name: "keys", help: "Print each key with its default, its variable and its meaning."),
    ],
    examples: [
      CommandExample(command: "outboxd config", meaning: "what run would use"),
      CommandExample(command: "outboxd config --schema > outboxd.schema.json", meaning: "for editors"),
    ],
    run: { invocation throws(RelayError) in try ConfigCommand.run(invocation) })

  private static let demo = CommandDescription(
    name: "demo", summary: "Run a complete demonstration on this machine, with its own Postgres and Kafka.",
    details: """
      Starts a throw-away Postgres and an embedded Kafka, creates the outbox tables of four services, writes
      business rows and events in the same transactions, relays them, and shows the events as they arrive.
      """,
    options: [
      CommandOption(name: "events", value: "NUMBER", help: "End after this many events. Default: at Ctrl-C."),
      CommandOption(
        name: "postgres", value: "CONNINFO", help: "Use this Postgres (wal_level must be logical)."),
      CommandOption(name: "brokers", value: "HOST:PORT", help: "Use this Kafka."),
    ],
    examples: [
      CommandExample(command: "outboxd demo", meaning: "until Ctrl-C"),
      CommandExample(command: "outboxd demo --events 20", meaning: "and then end cleanly"),
    ],
    exitCodes: [1],
    run: { invocation throws(RelayError) in try DemoCommand.run(invocation) })

  private static let completions = CommandDescription(
    name: "completions", summary: "Print completions for a shell.",
    arguments: [
      CommandArgument(
        name: "SHELL", isRequired: true, choices: Completions.Shell.allCases.map(\.rawValue),
        help: "bash, zsh or fish.")
    ],
    examples: [
      CommandExample(command: "source <(outboxd completions bash)", meaning: "in ~/.bashrc"),
      CommandExample(
        command: "outboxd completions zsh > \"${fpath[1]}/_outboxd\"", meaning: "once"),
      CommandExample(
        command: "outboxd completions fish > ~/.config/fish/completions/outboxd.fish", meaning: "once"),
    ],
    run: { invocation throws(RelayError) in try CompletionsCommand.run(invocation) })

  private static let version = CommandDescription(
    name: "version", summary: "Print the versions of outboxd and its libraries.",
    options: [jsonOption],
    examples: [CommandExample(command: "outboxd version --json", meaning: "for a bug report")],
    run: { invocation throws(RelayError) in VersionCommand.run(invocation) })

  private static let help = CommandDescription(
    name: "help", summary: "Explain a command.",
    arguments: [CommandArgument(name: "COMMAND", help: "The command. Without it: the list of commands.")],
    examples: [CommandExample(command: "outboxd help run", meaning: "the same as outboxd run --help")],
    run: { invocation throws(RelayError) in try HelpCommand.run(invocation) })

  private static let mockBroker = CommandDescription(
    name: "mock-broker", summary: "Run librdkafka's mock cluster, for the demo and for tests.",
    options: [
      CommandOption(name: "brokers", value: "NUMBER", help: "How many brokers. Default: 1.")
    ],
    examples: [CommandExample(command: "outboxd mock-broker", meaning: "prints its bootstrap.servers")],
    isHidden: true,
    run: { invocation throws(RelayError) in try MockBrokerCommand.run(invocation) })
}
