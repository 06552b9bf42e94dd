// Owns: the life of a session over sources that break off, and over a stop: a job with scripted sources and a file.
import CSystem
import Foundation
import Glibc
import PostgresSource
import RelayCore
import Synchronization
import Testing

@testable import outboxd

/// Transactions of so many rows each, numbered through. Its positions are the numbers of transactions.
private final class ScriptedSource: BoundedSource {
  let sizes: [Int]
  /// The first transaction that this one hands over.
  let first: Int
  /// Its places begin anew at each opening, as those of a table's rows do.
  let isSynthetic: Bool
  /// Breaks off before the row of this number (of all rows). Nil: never.
  let breakingAt: Int?
  /// What it breaks off with.
  var failure = RelayError(.sourceUnavailable, "scripted")
  let stopAt: (row: Int, stop: StopSignal)?
  /// After the stop there is nothing to read for a while at the end of a transaction, so that the loop looks at it.
  let pausesAtStop: Bool

  private var transaction: Int
  private var row = -1
  private var hasRelation = false
  private let values = UnsafeMutableBufferPointer<ColumnValue>.allocate(capacity: 4)
  private let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
  let descriptor = eventfd(1, Int32(EFD_CLOEXEC))

  init(
    sizes: [Int], first: Int, isSynthetic: Bool, breakingAt: Int?,
    stopAt: (row: Int, stop: StopSignal)? = nil,
    pausesAtStop: Bool = true
  ) {
    self.pausesAtStop = pausesAtStop
    self.sizes = sizes
    self.first = first
    self.isSynthetic = isSynthetic
    self.breakingAt = breakingAt
    self.stopAt = stopAt
    transaction = first
    values.initialize(repeating: ColumnValue(format: .null, bytes: LentBytes(start: nil, count: 0)))
  }

  deinit {
    values.deallocate()
    bytes.deallocate()
    close(descriptor)
  }

  var wantsWrite: Bool { false }
  var receivedBytes: UInt64 { 0 }
  var reportTime: MonotonicTime { .never }
  var isAtEnd: Bool { transaction == sizes.count }
  var database: String { "shop" }
  var progress: (done: UInt64, total: UInt64) { (UInt64(transaction), UInt64(sizes.count)) }
  var relation: Relation {
    Relation(
      id: 1, schema: "public", table: "outbox",
      columns: ["id", "type", "payload", "aggregateid"].map { Relation.Column(name: $0, type: .text) })
  }

  private func lsn(_ transaction: Int) -> LSN {
    LSN(UInt64(10 * (1 + transaction - (isSynthetic ? first : 0))))
  }

  func position(after checkpoint: LSN) -> String? {
    // The end of transaction n is its LSN and 5.
    let done = (isSynthetic ? first : 0) + Int((checkpoint.rawValue + 5) / 10)
    return checkpoint == .zero ? nil : String(max(first, done - 1))
  }

  func next() throws(RelayError) -> Change? {
    guard transaction < sizes.count else { return nil }
    if !hasRelation {
      hasRelation = true
      return .relation
    }
    if row < 0 {
      if pausesAtStop, let stopAt, stopAt.stop.isRequested { return nil }
      row = 0
      return .begin(commitLSN: lsn(transaction), commitTime: .unknown, transactionID: 0)
    }
    if row == sizes[transaction] {
      defer { (transaction, row) = (transaction + 1, -1) }
      let place = lsn(transaction)
      return .commit(commitLSN: place, endLSN: LSN(place.rawValue + 5), commitTime: .unknown)
    }
    let number = sizes[..<transaction].reduce(0, +) + row
    if number == breakingAt { throw failure }
    if let stopAt, stopAt.row == number { stopAt.stop.request() }
    row += 1
    let count = "e\(number)".utf8.count
    bytes.copyBytes(from: Array("e\(number)".utf8))
    for index in 0..<4 {
      values[index] = ColumnValue(format: .text, bytes: LentBytes(rebasing: bytes[..<count]))
    }
    return .insert(RowView(relationID: 1, values: UnsafeBufferPointer(values)))
  }

  func report(flushed: LSN, now: MonotonicTime) {}
  func finish(flushed: LSN, deadline: MonotonicTime) {}
}

/// A use that notes what a session asks of it.
private final class ScriptedUse: SessionUse {
  var configuration = Configuration()
  let options = RelayOptions()
  let store: any CheckpointStore
  let reactions = ReactionTable.daemon
  let readingLimit = 1_000
  /// What each opening throws, or breaks off with before the row of number 4; nil: neither.
  private var failures: [(opening: RelayError?, row: RelayError?)]
  private var sinkFailures: [RelayError]

  private(set) var examinations: [Bool] = []
  private(set) var finishes: [Bool] = []
  private(set) var explanations: [Bool] = []
  private(set) var checkpoints: [LSN] = []

  init(_ failures: [(opening: RelayError?, row: RelayError?)], sinkFailures: [RelayError] = []) {
    self.failures = failures
    self.sinkFailures = sinkFailures
    store = JobCheckpoints(keeper: nil, metrics: RelayMetrics(), meter: JobMeter(), sentBefore: 0)
    var mapping = OutboxMapping()
    mapping.topic = (try? Template("t")) ?? mapping.topic
    configuration.outboxes = [mapping]
  }

  func open(after relay: Relay?) throws(RelayError) -> SessionSource {
    if let relay { checkpoints.append(relay.checkpoint) }
    let (opening, row) = failures.removeFirst()
    if let opening { throw opening }
    let source = ScriptedSource(
      sizes: [3, 2, 2], first: 0, isSynthetic: false, breakingAt: row == nil ? nil : 4)
    source.failure = row ?? source.failure
    return SessionSource(changes: source, database: "shop")
  }

  func examine(_ relay: Relay) { examinations.append(relay.hasSink) }

  func makeSink() throws(RelayError) -> any RecordSink {
    if let failure = sinkFailures.popLast() { throw failure }
    return try CountingSink()
  }

  func sourceLost(_ error: RelayError, _ relay: Relay?) -> RelayError? { nil }

  func finished(_ relay: Relay, isDrained: Bool, deadline: MonotonicTime) { finishes.append(isDrained) }

  func explained(_ error: RelayError, isOfRow: Bool) -> RelayError {
    explanations.append(isOfRow)
    return error
  }
}

@Suite struct SessionTests {
  private static let sizes = [3, 1, 40, 2, 7, 1, 1, 20]
  private static let total = 75

  private final class Openings: Sendable {
    let positions = Mutex<[String?]>([])
  }

  private func job(
    to path: String, synthetic: Bool, breaks: [Int] = [], openings: Openings = Openings(),
    stopAt: Int? = nil, rate: Int? = nil, resumed: JobRecord? = nil
  ) throws -> Job {
    var configuration = Configuration()
    var mapping = OutboxMapping()
    mapping.topic = try Template("t")
    configuration.outboxes = [mapping]
    configuration.log = LogSettings(level: .error)
    return Job(
      command: "replay", verb: "replaying", configuration: configuration,
      options: RelayOptions(hasPositions: !synthetic), target: .file(path), rate: rate, request: .null,
      resumed: resumed,
      resumeCommand: { "resume \($0)" },
      open: { (position, stop, _) throws(RelayError) -> any BoundedSource in
        let number = openings.positions.withLock { positions in
          positions.append(position)
          return positions.count - 1
        }
        return ScriptedSource(
          sizes: Self.sizes, first: position.flatMap { Int($0) } ?? 0, isSynthetic: synthetic,
          breakingAt: number < breaks.count ? breaks[number] : nil, stopAt: stopAt.map { ($0, stop) },
          pausesAtStop: rate == nil)
      })
  }

  private func run(_ job: Job, keeper: JobKeeper) -> RelayError? {
    let (metrics, stop, log) = (RelayMetrics(), StopSignal(), Log(level: .error))
    let use = JobUse(
      job: job, id: 1, keeper: keeper, metrics: metrics, meter: JobMeter(), stop: stop, log: log)
    return Session(use, metrics: metrics, stop: stop, log: log).run().failure
  }

  private func ids(_ path: String) throws -> [Int] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map { line in
      let mark = try #require(line.firstRange(of: #""ce_id","value":"e"#))
      return try #require(Int(line[mark.upperBound...].prefix { $0 != "\"" }))
    }
  }

  private func keeper() -> JobKeeper { JobKeeper(settings: PostgresSettings(), log: Log(level: .error)) }

  @Test(arguments: [false, true])
  func `a source is relayed to its end, and the position is its end`(synthetic: Bool) throws {
    let path = try TemporaryFolder().path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let keeper = keeper()
    let failure = run(try job(to: path + "/f", synthetic: synthetic), keeper: keeper)
    #expect(failure == nil)
    #expect(try ids(path + "/f") == Array(0..<Self.total))
    #expect(keeper.position == String(Self.sizes.count))
  }

  @Test func `a source of the WAL that breaks off goes on with nothing lost and nothing twice`() throws {
    let folder = try TemporaryFolder()
    for breaking in [0, 2, 3, 4, 30, 44, 74] {
      let (path, openings) = (folder.path + "/\(breaking)", Openings())
      let failure = run(
        try job(to: path, synthetic: false, breaks: [breaking, 74], openings: openings), keeper: keeper())
      #expect(failure == nil)
      #expect(try ids(path) == Array(0..<Self.total), "\(breaking)")
      #expect(openings.positions.withLock { $0.count } == 3)
    }
  }

  @Test func `rows of a table come again from the last position, and none is lost`() throws {
    let folder = try TemporaryFolder()
    for breaking in [0, 2, 3, 4, 30, 44, 74] {
      let path = folder.path + "/\(breaking)"
      let failure = run(try job(to: path, synthetic: true, breaks: [breaking, 60]), keeper: keeper())
      #expect(failure == nil)
      let found = try ids(path)
      #expect(Set(found) == Set(0..<Self.total), "\(breaking)")
      // First sights are in order: a later row never overtakes.
      var newest = -1
      for id in found where id > newest {
        #expect(id == newest + 1, "\(breaking)")
        newest = id
      }
    }
  }

  @Test(arguments: [false, true])
  func `a stopped job is interrupted, and goes on from its position with nothing lost`(synthetic: Bool) throws
  {
    let folder = try TemporaryFolder()
    for stopAt in [0, 2, 3, 10, 44, 54] {
      let path = folder.path + "/\(stopAt)"
      let keeper = keeper()
      let failure = run(try job(to: path, synthetic: synthetic, stopAt: stopAt), keeper: keeper)
      #expect(failure?.kind == .interrupted)
      let before = try ids(path)
      let record = JobRecord(
        id: 1, command: "replay", request: "{}", position: keeper.position, events: UInt64(before.count),
        startedAt: "", isRunning: false)
      // The transaction that was being read has come to its end, and not the next one.
      #expect(keeper.position != nil && before.count >= stopAt && before.count < Self.total, "\(stopAt)")
      let openings = Openings()
      let second = run(
        try job(to: path, synthetic: synthetic, openings: openings, resumed: record), keeper: self.keeper())
      #expect(second == nil)
      #expect(openings.positions.withLock { $0 } == [record.position])
      #expect(try ids(path) == Array(0..<Self.total), "\(stopAt)")
    }
  }

  @Test func `the transaction that is being read when a stop comes is read to its end, also at a slow rate`()
    throws
  {
    let folder = try TemporaryFolder()
    let keeper = keeper()
    // The loop sees the stop while a row waits for its time, and the next transaction begins without a pause.
    for (stopAt, end, position) in [(8, 44, "3"), (48, 53, "5")] {
      let path = folder.path + "/\(stopAt)"
      #expect(
        run(try job(to: path, synthetic: false, stopAt: stopAt, rate: 100), keeper: keeper)?.kind
          == .interrupted)
      #expect(try ids(path) == Array(0..<end))
      #expect(keeper.position == position)
    }
  }

  /// A job whose source breaks off once with `end`, and is refused once with `refusal`.
  private func run(_ end: RelayError, then refusal: RelayError, _ path: String) throws -> RelayError? {
    let openings = Openings()
    var job = try job(to: path, synthetic: false)
    job.reach = { (_, _) throws(RelayError) in throw refusal }
    job.open = { (position, _, _) throws(RelayError) -> any BoundedSource in
      let number = openings.positions.withLock { positions in
        positions.append(position)
        return positions.count
      }
      if number == 2 { throw refusal }
      let source = ScriptedSource(
        sizes: Self.sizes, first: position.flatMap { Int($0) } ?? 0, isSynthetic: false,
        breakingAt: number == 1 ? 44 : nil)
      source.failure = end
      return source
    }
    return run(job, keeper: keeper())
  }

  @Test func `a job whose server shuts down ends and can be resumed; any other loss it outlives`() throws {
    let folder = try TemporaryFolder()
    let (ended, lost) = (
      RelayError(.sourceUnavailable, "ended", code: "57P01"), RelayError(.sourceUnavailable, "lost")
    )
    let (shuttingDown, full) = (
      RelayError(.sourceUnavailable, "shutting down", code: "57P03"),
      RelayError(.sourceUnavailable, "too many", code: "53300")
    )
    for (number, refusal) in [shuttingDown, lost].enumerated() {
      let failure = try run(ended, then: refusal, folder.path + "/end\(number)")
      #expect(failure?.kind == .sourceUnavailable && failure?.kind.exitCode == 75)
      #expect(failure?.message == "Postgres was shut down: \(refusal.message)")
    }
    for (number, (end, refusal)) in [(ended, full), (lost, lost), (lost, shuttingDown)].enumerated() {
      let path = folder.path + "/on\(number)"
      #expect(try run(end, then: refusal, path) == nil)
      #expect(try ids(path) == Array(0..<Self.total))
    }
  }

  @Test func `before its first row a job gives up where the source cannot be had`() throws {
    let folder = try TemporaryFolder()
    var job = try job(to: folder.path + "/f", synthetic: false)
    job.open = { (_, _, _) throws(RelayError) -> any BoundedSource in
      throw RelayError(.sourceUnavailable, "not there")
    }
    #expect(run(job, keeper: keeper())?.kind == .sourceUnavailable)
    #expect(access(folder.path + "/f", F_OK) != 0)
  }

  // MARK: Any use

  private func run(_ use: ScriptedUse) -> Session.End {
    Session(use, metrics: RelayMetrics(), stop: StopSignal(), log: Log(level: .error)).run()
  }

  @Test func `a row that is refused ends the session once, after what precedes it is acknowledged`() {
    let use = ScriptedUse([(nil, RelayError(.rowRejected, "no event"))])
    #expect(run(use).failure?.kind == .rowRejected)
    #expect(use.finishes == [true] && use.explanations == [true])
  }

  @Test func `a source that can never be opened ends the session, and no row is to blame`() {
    let use = ScriptedUse([(RelayError(.slotLost, "gone"), nil)])
    #expect(run(use).failure?.kind == .slotLost)
    #expect(use.finishes.isEmpty && use.explanations == [false])
  }

  @Test func `a lost source is followed by another one behind what is acknowledged`() {
    let use = ScriptedUse([(nil, RelayError(.sourceUnavailable, "lost")), (nil, nil)])
    #expect(run(use).failure == nil)
    #expect(use.checkpoints == [LSN(15)] && use.examinations == [false, true])
  }

  @Test func `a producer that could not be made is made again, with everything to be asked before it sends`()
  {
    var failure = RelayError(.sinkFailed, "no thread")
    failure.isRemedied = true
    let use = ScriptedUse([(nil, nil), (nil, nil)], sinkFailures: [failure])
    #expect(run(use).failure == nil)
    #expect(use.examinations == [false, false] && use.finishes == [true])
  }
}
