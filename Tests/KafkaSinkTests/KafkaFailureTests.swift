import CRdkafka
import Foundation
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct KafkaFailureTests {
  /// Every code that means more than "a new producer sends it again", by its number: what Kafka's protocol and
  /// librdkafka up to 2.16 define.
  private static let table: [KafkaFailure: [Int32]] = [
    .record: [-1, 43, 44, 87, -186, -199],
    .size: [4, 10, 18],
    .clock: [32],
    .login: [33, 34, 58, 61, 62, 63, 64, 66, 67, 93, 97, -169, -181],
    .right: [29, 30, 31, 53, 65],
    .topicMissing: [3, 100, 103, -188],
    .topicName: [17],
    .unreachable: [13, -166, -185, -187, -193, -195],
    .passing: [
      5, 6, 7, 8, 9, 11, 14, 15, 16, 19, 20, 37, 38, 39, 41, 56, 57, 60, 72, 74, 75, 77, 78, 80, 83, 89, 116,
      129,
      -146, -153, -164, -177, -178, -180, -182, -183, -190,
    ],
    .configuration: [21, 35, 76, 114, 115, -145, -165, -170, -171],
  ]

  @Test func `every code has its class, those included that the library at hand does not know`() {
    var expected: [Int32: KafkaFailure] = [:]
    for (failure, codes) in Self.table { for code in codes { expected[code] = failure } }
    #expect(expected.count == Self.table.values.reduce(0) { $0 + $1.count })
    for code in Int32(-250)...400 where code != 0 {
      #expect(KafkaFailure(rd_kafka_resp_err_t(rawValue: code)) == expected[code] ?? .producer, "\(code)")
    }
    #expect(KafkaFailure(rd_kafka_resp_err_t(rawValue: .max)) == .producer)
    #expect(KafkaFailure(rd_kafka_resp_err_t(rawValue: .min)) == .producer)
  }

  @Test func `every code of the library at hand has a text, a name and a reaction that ends or heals`() {
    var list: UnsafePointer<rd_kafka_err_desc>?
    var count = 0
    rd_kafka_get_err_descs(&list, &count)
    let known = UnsafeBufferPointer(start: list, count: count).filter {
      $0.name != nil && ![0, -100, -200].contains($0.code.rawValue)
    }
    #expect(known.count > 140)
    for description in known {
      let code = description.code
      let error = KafkaFailure.record(code, topic: "t", partition: 0, sizes: RecordSizes(), broker: "k:1")
      #expect(error.code == String(cString: description.name))
      #expect(error.kind == KafkaFailure(code).kind)
      switch KafkaFailure(code) {
      case .record, .size, .topicName: #expect(error.kind.reaction == .applyPolicy)
      case .configuration:
        #expect(error.kind.reaction == .halt)
        #expect(error.remedy != nil)
      default: #expect(error.kind.reaction == .rebuildSink)
      }
      #expect(KafkaFailure.fatal(code, reason: "", broker: "k:1").kind != .recordRejected)
    }
  }

  @Test func `a wrong clock is named, and heals`() {
    let error = KafkaFailure.record(
      RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, topic: "t", partition: 0, sizes: RecordSizes(), broker: "k:1")
    #expect(error.kind == .sinkFailed)
    #expect(error.message.contains("Kafka refused the timestamp 20"))
    for name in ["clock", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"] {
      #expect(error.remedy?.contains(name) == true)
    }
  }

  @Test(
    "the remedy for a refused login names the mechanism's own properties",
    arguments: [
      ("OAUTHBEARER", "sasl.oauthbearer.token.endpoint.url"), ("GSSAPI", "sasl.kerberos.keytab"),
      ("PLAIN", "sasl.password"), ("", "security.protocol"),
    ])
  func login(mechanism: String, property: String) {
    let error = KafkaFailure.denied(
      RD_KAFKA_RESP_ERR__AUTHENTICATION, reason: "no", mechanism: mechanism, certificate: nil)
    #expect(error.kind == .sinkDenied)
    #expect(error.remedy?.contains(property) == true)
    #expect(mechanism == "PLAIN" || error.remedy?.contains("sasl.username") == false)
  }

  @Test func `batches always become smaller, down to single records`() {
    let limit = BatchLimit()
    #expect(limit.bytes == nil)
    #expect(limit.shrink(1_000_000, batch: 900_000, topicLimit: 20_000) == 20_000)
    #expect(limit.bytes == 20_000)
    // A limit that is no smaller teaches nothing.
    #expect(limit.shrink(20_000, batch: 19_000, topicLimit: 20_000) == 9_500)
    #expect(limit.shrink(9_500, batch: 50_000, topicLimit: nil) == 4_750)
    var current = 4_750
    while current > 1 {
      let next = limit.shrink(current, batch: current * 2, topicLimit: nil)
      #expect(next < current)
      current = next
    }
    #expect(limit.shrink(1, batch: 0, topicLimit: nil) == 1)
  }
}
