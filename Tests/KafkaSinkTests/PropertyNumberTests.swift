import CRdkafka
import Foundation
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct PropertyNumberTests {
  private func settings(_ properties: [String: String]) -> KafkaSettings {
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": "127.0.0.1:1"].merging(properties) { $1 }
    return settings
  }

  /// Every property that is a whole number, with its range.
  private static let numbers: [(name: String, lowest: Int, highest: Int)] = {
    var bytes: UnsafeMutablePointer<CChar>?
    var size = 0
    guard let stream = open_memstream(&bytes, &size) else { return [] }
    rd_kafka_conf_properties_show(stream)
    fclose(stream)
    guard let bytes else { return [] }
    defer { free(bytes) }
    return String(cString: bytes).split(separator: "\n").compactMap { line in
      let fields = line.split(separator: "|", omittingEmptySubsequences: false)
        .map { $0.trimmingCharacters(in: .whitespaces) }
      guard fields.count >= 6, fields[1] != "C" else { return nil }
      let ends = fields[2].components(separatedBy: " .. ").compactMap { Int($0) }
      return ends.count == 2 ? (fields[0], ends[0], ends[1]) : nil
    }
  }()

  @Test func `a number of any size is taken or refused with a reason, and never a crash`() throws {
    #expect(Self.numbers.count > 40)
    var made = 0
    for (name, lowest, highest) in Self.numbers {
      let extremes = [
        "", " ", "-", "0", "1", "-1", "9223372036854775807", "-9223372036854775808",
        "99999999999999999999999",
        "4294968296", "1e6", "0x10", "1_000", "٣", "2147483647", "-2147483648", "\(lowest)", "\(highest)",
        "\(lowest - 1)", "\(highest + 1)",
      ]
      for value in extremes {
        let settings = settings([name: value])
        let faults = KafkaProperties.check(settings)
        #expect(faults.allSatisfy { !$0.reason.isEmpty })
        _ = KafkaProperties.queueKilobytes(settings)
        if let number = Int(value), number < lowest || number > highest {
          #expect(!faults.isEmpty, "\(name)=\(value)")
        }
        guard faults.isEmpty, value == "\(lowest)" || value == "\(highest)" else { continue }
        _ = try? ProducerHandle(settings)
        made += 1
      }
    }
    #expect(made > 40)
  }

  @Test(
    "what librdkafka would cut off or wrap around is refused",
    arguments: ["4294968296", "1e6", "0x10", "20000x"])
  func truncated(value: String) {
    let faults = KafkaProperties.faults(settings(["batch.size": value]))
    #expect(faults.map(\.property) == ["batch.size"])
    #expect(faults.first?.reason.contains("whole number") == true, "\(faults)")
  }

  @Test func `numbers are librdkafka's, wherever they stand`() throws {
    let path = NSTemporaryDirectory() + "outboxd-number-\(UUID().uuidString)"
    try Data("2000000\n".utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    var settings = settings(["queue.buffering.max.kbytes": "1000"])
    settings.propertyFiles["message.max.bytes"] = path
    #expect(KafkaProperties.faults(settings).map(\.property) == ["queue.buffering.max.kbytes"])
    settings.properties["queue.buffering.max.kbytes"] = nil
    settings.properties["message.copy.max.bytes"] = "1000"
    #expect(KafkaProperties.number("message.max.bytes", settings) == 2_000_000)
    let handle = try ProducerHandle(settings)
    #expect(handle.number("message.max.bytes") == 2_000_000)
    #expect(handle.number("queue.buffering.max.kbytes") == 16_384)
    #expect(handle.queueLimit == 16_384)
  }
}
