// Owns: captured streams as files, and the text form of a change that they are compared by.
// Must not know: how a stream is captured.
import Foundation
import PostgresSource
import RelayCore

/// A captured stream: the payload of each XLogData message and what it must decode to.
struct Golden {
  struct Message {
    var payload: [UInt8]
    var expected: String
  }

  var name: String
  var messages: [Message]

  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Goldens")

  static let all: [Golden] = {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return files.filter { $0.hasSuffix(".hex") }.sorted().compactMap { file in
      guard let text = try? String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8) else {
        return nil
      }
      return Golden(name: String(file.dropLast(4)), text: text)
    }
  }()

  init(name: String, messages: [Message]) {
    self.name = name
    self.messages = messages
  }

  /// Each message: a line of hexadecimal digits, then a line "= " and what it says.
  init(name: String, text: String) {
    self.name = name
    messages = []
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      if line.hasPrefix("= ") {
        messages[messages.count - 1].expected = String(line.dropFirst(2))
      } else {
        messages.append(Message(payload: bytes(line), expected: ""))
      }
    }
  }

  var text: String {
    messages.map { "\(hex($0.payload))\n= \($0.expected)\n" }.joined()
  }
}

func hex(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef")
  return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}

func bytes(_ hex: some StringProtocol) -> [UInt8] {
  let digits = hex.utf8.map { UInt8($0 < 0x3A ? $0 - 0x30 : $0 - 0x57) }
  return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// One line that holds everything a change says.
func render(_ change: Change, _ relation: Relation) -> String {
  switch change {
  case .begin(let commitLSN, let time, let xid): "begin commit=\(commitLSN) time=\(time) xid=\(xid)"
  case .commit(let commitLSN, let endLSN, let time): "commit \(commitLSN) end=\(endLSN) time=\(time)"
  case .relation:
    "relation \(relation.id) \(relation.schema).\(relation.table) "
      + relation.columns.map { "\($0.name):\($0.type)" }.joined(separator: " ")
  case .insert(let row): "insert \(row.relationID) " + row.values.map(render).joined(separator: " ")
  case .update(let id): "update \(id)"
  case .delete(let id): "delete \(id)"
  case .truncate(let count): "truncate \(count)"
  case .message(let message):
    "message transactional=\(message.isTransactional) lsn=\(message.lsn) prefix="
      + "\(String(decoding: message.prefix, as: UTF8.self)) content=\(hex(message.content))"
  case .keepalive(let walEnd): "keepalive \(walEnd)"
  case .other: "other"
  }
}

private func render(_ value: ColumnValue) -> String {
  switch value.format {
  case .null: "null"
  case .unchanged: "unchanged"
  case .text: "text'\(String(decoding: value.bytes, as: UTF8.self))'"
  case .binary:
    value.bytes.count > 64
      ? "binary[\(value.bytes.count)]\(hex(value.bytes.prefix(8)))…\(hex(value.bytes.suffix(8)))"
      : "binary'\(hex(value.bytes))'"
  }
}
