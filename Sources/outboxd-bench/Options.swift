// Owns: the command line and its help.
// Must not know: what the cases do.
import RelayTesting

struct Options {
  static let help = """
    Measure outboxd against the limits of source and sink, a minimal C relay, and Debezium.

    Usage:
      swift run -c release outboxd-bench [options]

    Starts a Postgres (15 where it is installed) and a real Kafka of its own on this machine, measures, ends
    them, and prints tables. Rows are written once per workload; every contender drains a copy of the same
    slot, so all read the same WAL. Contenders take turns (A, B, C, A, B, C), and ratios are taken within a
    turn. Let nothing else run on the machine.

    Options:
          --list               Print the cases and end.
          --only NAME,...      Only these cases, or those that begin so: --only drain,latency/1000
          --contenders WORD,...  Only contenders whose names hold one of the words: --contenders floor,outboxd
          --repetitions N      Turns of each case. Default: 5; with --quick 1.
          --rows N             Rows of each drain. Default: by workload, up to 1,000,000; with --quick a fifth.
          --quick              A first look in some minutes: fewer rows, one turn, shorter load.
          --full               Growth up to 10,000,000 rows.
          --json FILE          Write all figures there, every single value included.
      -h, --help               Print this help.

    Contenders:
      pg_recvlogical       the source's limit: the same slot and options, to /dev/null
      librdkafka alone     the sink's limit: the same messages, without Postgres
      C floor              receives in outboxd's reading pattern, builds the same messages, produces with the
                           same settings, confirms as late; nothing else. With the best setting of glibc's malloc
      reference            the outboxd of OUTBOXD_BENCH_REFERENCE, started alike
      outboxd              the release binary, started bare, default configuration but for slot and topic
      Debezium             its outbox event router on Kafka Connect, counted once its JVM is warm

    Figures:
      rows/s, MB/s         acknowledged rows, and bytes of the stream, from the start of streaming
      / pg_recvlogical     rows/s divided by those of pg_recvlogical of the same turn; / floor likewise
      CPU s/M              CPU seconds of the contender per million rows, all threads; so for walsender and broker
      peak MB              VmHWM of the contender
      start s              from the start of the program to streaming
      p50 ms               from the return of the INSERT to the message in a consumer's hands
      ack p50 ms           from the commit to Kafka's acknowledgement, from the histogram of /metrics

    Environment:
      OUTBOXD_BINARY           the outboxd to measure; default: the one beside this program
      OUTBOXD_BENCH_REFERENCE  another outboxd that drains the same, to see what a change costs
      OUTBOXD_TEST_KAFKA       a program like ../shared/kafka/kafka that starts brokers; without one, outboxd's
                               embedded broker is used, which has no disk and no replication
      OUTBOXD_BENCH_DEBEZIUM   a program like ../shared/debezium/start; without one, Debezium is left out

    """

  var list = false
  var only: [String] = []
  var contenders: [String] = []
  var repetitions: Int?
  var rows: Int?
  var quick = false
  var full = false
  var json: String?
  var wantsHelp = false

  init(_ words: [String]) throws {
    var words = words[...]
    func value(_ option: String) throws -> String {
      guard let word = words.popFirst() else { throw HarnessError("\(option) wants a value") }
      return word
    }
    func number(_ option: String) throws -> Int {
      let text = try value(option)
      guard let number = Int(text), number > 0 else {
        throw HarnessError("\(option): \(text) is no number above 0")
      }
      return number
    }
    while let word = words.popFirst() {
      switch word {
      case "--list": list = true
      case "--only": only = try value(word).split(separator: ",").map(String.init)
      case "--contenders": contenders = try value(word).split(separator: ",").map(String.init)
      case "--repetitions": repetitions = try number(word)
      case "--rows": rows = try number(word)
      case "--quick": quick = true
      case "--full": full = true
      case "--json": json = try value(word)
      case "-h", "--help": wantsHelp = true
      default: throw HarnessError("unknown option \(word); see --help")
      }
    }
  }

  var turns: Int { repetitions ?? (quick ? 1 : 5) }

  /// How many rows a drain of usually `count` rows has.
  func scaled(_ count: Int) -> Int { rows ?? (quick ? count / 5 : count) }

  func selects(_ contender: Contender) -> Bool {
    contenders.isEmpty || contenders.contains { contender.name.contains($0) }
  }

  func selects(_ name: String) -> Bool {
    only.isEmpty || only.contains { name == $0 || name.hasPrefix($0 + "/") }
  }
}
