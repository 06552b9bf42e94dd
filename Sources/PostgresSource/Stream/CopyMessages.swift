// Owns: the frame of the streaming replication protocol inside CopyData. Pure.
// Must not know: pgoutput, connections.
import RelayCore

/// What the server sends. Source: PostgreSQL manual, 55.4 "Streaming Replication Protocol".
enum CopyMessage {
  /// XLogData. Its positions go backwards between transactions and are no measure of progress: left out.
  case walData(payload: LentBytes)
  case keepalive(walEnd: LSN, replyRequested: Bool)

  @inline(__always)
  static func decode(_ bytes: LentBytes) throws(RelayError) -> CopyMessage {
    guard var reader = WireReader(bytes) else {
      throw WireReader.malformed(tag: nil, offset: 0, "it is empty")
    }
    switch reader.tag {
    case UInt8(ascii: "w"):
      _ = try reader.lsn()
      _ = try reader.lsn()
      _ = try reader.time()
      return .walData(payload: reader.rest())
    case UInt8(ascii: "k"):
      let walEnd = try reader.lsn()
      _ = try reader.time()
      let reply = try reader.uint8()
      try reader.end()
      return .keepalive(walEnd: walEnd, replyRequested: reply != 0)
    default:
      throw WireReader.malformed(tag: reader.tag, offset: 0, "no message of the copy stream has this tag")
    }
  }
}

/// The standby status update, which the client sends.
enum StatusMessage {
  static let count = 34

  /// Writes the message with one position for written, flushed and applied: a position reported as written
  /// but not flushed makes the server hold back its keepalives.
  static func encode(
    position: LSN, clientTime: PostgresMicroseconds, requestReply: Bool,
    into buffer: UnsafeMutableRawBufferPointer
  ) {
    precondition(buffer.count >= count)
    // SAFETY: the offsets below end at 34, and the buffer has at least that many bytes.
    buffer.storeBytes(of: UInt8(ascii: "r"), toByteOffset: 0, as: UInt8.self)
    for offset in [1, 9, 17] {
      buffer.storeBytes(of: position.rawValue.bigEndian, toByteOffset: offset, as: UInt64.self)
    }
    buffer.storeBytes(of: clientTime.bigEndian, toByteOffset: 25, as: Int64.self)
    buffer.storeBytes(of: requestReply ? 1 : 0, toByteOffset: 33, as: UInt8.self)
  }
}
