// Owns: the constants that pace reading, lingering, windows and buffers, with what each was measured to give.
// Must not know: what is read or sent.

/// Measured on the machine of the manual's "Figures", if no other is named. `relay.adaptive: off` turns off what reacts
/// to the load: `Reading` but for `gatheredBytes`, `Receiving`, `InFlight`, and the flush that takes the place of lingering.
public enum Tuning {
  /// One turn of the loop.
  public enum Turn {
    /// Messages handled before deliveries, timers and the stop signal are checked again.
    public static let messages = 1024
    /// A turn that takes longer ends early: the server wants to hear from us, and a topic's first sight may block.
    public static let milliseconds = 50
    /// Transactions that may wait behind one that is not acknowledged. An entry of the ledger takes 40 bytes: 10 MiB.
    public static let waitingTransactions = 262_144
    /// Nanoseconds by which the kernel may delay a timer of the relay's thread, in place of its usual 50,000, which
    /// would be half of `Reading.transactionNap`.
    public static let timerSlack: UInt = 1_000
  }

  /// `ReadingPace`. A reader that waits for each message makes the server send each row as a segment of its own; one
  /// that lets rows gather doubles the throughput of both.
  public enum Reading {
    /// Bytes a second. A faster stream is a backlog.
    public static let backlogRate = 20_000_000.0
    /// Bytes. A round that brought as many has let enough gather.
    public static let fullRound: UInt64 = 500_000
    /// How often an empty socket is read again while a backlog drains, and the microseconds between: what the server is
    /// sending belongs to the same round.
    public static let rereads = 6
    public static let rereadTime: UInt32 = 30
    /// Microseconds that a backlog gathers: 0.11 segments a row in place of 0.13 with 10,000, and 0.17 with 5,000.
    public static let backlogNap: UInt32 = 15_000
    /// Microseconds, within a transaction that comes slowly.
    public static let transactionNap: UInt32 = 100
    /// Microseconds that single events share a wake-up: at 1,000 events/s 480 wake-ups a second in place of 2,600.
    public static let gatherTime: UInt32 = 2_500
    /// Bytes a second. From here on a wake-up is shared by enough events in less time.
    public static let denseRate = 1_500_000.0
    public static let denseGatherTime: UInt32 = 1_000
    /// Nanoseconds over which the rate is measured.
    public static let rateTime: UInt64 = 10_000_000
    /// Bytes read before the first of their messages is handled, about: a socket that is emptied bit by bit between rows
    /// acknowledges each bit (5 % more CPU in the walsender). Just below a power of two, to which libpq's buffer is
    /// doubled: with rows of usual size it stays at 2 MiB.
    public static let gatheredBytes = 2_000_000
  }

  /// `ReceiveBuffer`, of a stream from a server on this machine: 257,000 rows/s in place of 140,000 with the congestion
  /// control cubic, 260,000 in place of 235,000 with bbr.
  public enum Receiving {
    /// Microseconds. From farther away a small window would take too long to fill again.
    public static let localRoundTrips = 1...60
    /// Bytes, of which the kernel makes twice as many.
    public static let size: Int32 = 65_536
    /// Bytes while nobody reads: room for what is under way. No more, since the window that is offered now is still open
    /// when reading continues. Within the usual `net.core.rmem_max` of 212,992.
    public static let heldSize: Int32 = 196_608
    /// Milliseconds without a read that are no usual pause.
    public static let holdTime = 250
  }

  /// `InFlightWindow`.
  public enum InFlight {
    /// Records. As many fit into a core's own cache: 2.1 in place of 2.7 CPU seconds per million with the whole queue, and
    /// 8 % more throughput.
    public static let records = 2_048
    /// Records of a partition: each has requests of its own. With 2,048 for 100 topics a request had 20 records.
    public static let recordsOfPartition = 64
    /// Milliseconds: between two measurements, from the first time that the window holds back to a trial, and after a
    /// trial without a gain. A trial of the whole queue cost a fifth of a drain's CPU: it doubles the window.
    public static let interval = 500
    public static let patience = 5_000
    public static let rest = 30_000
    /// A trial must deliver so many times as much. With a distant broker twice the window delivers up to twice as much.
    public static let gain = 1.2
    /// The default of queue.buffering.max.messages: what a trial may reach. 10,000 were the best of a C producer, with
    /// 21 MB resident; 1,000 delivered a fifth.
    public static let queue = 16_384
    /// The default of queue.buffering.max.kbytes.
    public static let queueKilobytes = 16_384
  }

  /// Lingering.
  public enum Linger {
    /// Milliseconds; the default of queue.buffering.max.ms. For a backlog, whose requests are the larger and the fewer;
    /// with 5 the window of 2,048 records is the limit. Single events are flushed: 1 ms of lingering would add 2 ms to
    /// their latency (p50 0.98 to 2.8 ms at 1,000 events/s).
    public static let milliseconds = 3
    /// Microseconds of a flush while one record is in flight at a time.
    public static let isolated: UInt32 = 1_000
  }

  /// Rows that are read from tables.
  public enum Tables {
    /// Rows of the first request and of the largest; between them it quadruples.
    public static let firstBatch = 64
    public static let largestBatch = 4_096
    /// Bytes. A batch is held in memory as a whole, and the next one is under way meanwhile.
    public static let batchBytes = 1 << 20
    /// The position is known only where a synthetic transaction ends: after so many rows, or milliseconds where rows wait
    /// for their sink.
    public static let transactionRows = 1_000
    public static let transactionMilliseconds = 200
  }
}
