// Every way the connections to Kafka can be protected, and what is said of them.
import RelayCore
import Testing

@testable import KafkaSink

@Suite struct KafkaTransportTests {
  private func transport(_ properties: [String: String]) -> KafkaTransport {
    var settings = KafkaSettings()
    settings.properties = ["bootstrap.servers": "kafka.example:9092"].merging(properties) { $1 }
    return KafkaTransport(settings)
  }

  @Test(
    arguments: [
      ([:], "are not encrypted (security.protocol=plaintext): anyone"),
      (["security.protocol": "PLAINTEXT"], "are not encrypted (security.protocol=plaintext): anyone"),
      (
        ["security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"],
        "(security.protocol=sasl_plaintext): the password of SASL PLAIN is sent in clear text, and anyone"
      ),
      (
        ["security.protocol": "sasl_plaintext", "sasl.mechanisms": "OAUTHBEARER"],
        "the token of SASL OAUTHBEARER is sent in clear text, and anyone"
      ),
      (
        ["security.protocol": "sasl_plaintext", "sasl.mechanism": "SCRAM-SHA-512"],
        "are not encrypted (security.protocol=sasl_plaintext): anyone"
      ),
      (
        ["security.protocol": "ssl", "enable.ssl.certificate.verification": "false"],
        "certificates of Kafka's brokers are not verified (enable.ssl.certificate.verification=false): anyone who poses as a "
          + "broker gets the events"
      ),
      (
        [
          "security.protocol": "sasl_ssl", "sasl.mechanism": "plain",
          "enable.ssl.certificate.verification": "f",
        ], "gets the events, and the password of SASL PLAIN"
      ),
      (
        ["security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"],
        "hosts of Kafka's brokers are not verified (ssl.endpoint.identification.algorithm=none)"
      ),
      (
        [
          "security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN",
          "ssl.endpoint.identification.algorithm": "none",
        ], "gets the events, and the password of SASL PLAIN"
      ),
    ] as [([String: String], String)])
  func `what does not verify the brokers is warned of, once`(
    properties: [String: String], words: String
  ) throws {
    let warnings = transport(properties).warnings
    #expect(warnings.count == 1)
    let warning = try #require(warnings.first)
    #expect(warning.message.contains(words), "\(warning.message)")
    #expect(warning.remedy?.isEmpty == false)
    for servers in ["localhost:9092", "127.0.0.1,[::1]:9092", "PLAINTEXT://127.9.9.9:9092"] {
      #expect(transport(properties.merging(["bootstrap.servers": servers]) { $1 }).warnings == [])
    }
    for servers in [
      "localhost:9092,kafka.example:9092", "127.example:9092", "[2001:db8::1]:9092", "1270.0.0.1",
    ] {
      #expect(transport(properties.merging(["bootstrap.servers": servers]) { $1 }).warnings.count == 1)
    }
  }

  @Test func `TLS with its defaults verifies certificates and hosts`() {
    // librdkafka before 2.0 did not verify hosts by itself: what it says is taken.
    let isDefault =
      KafkaProperties.valueInForce("ssl.endpoint.identification.algorithm", KafkaSettings()) == "https"
    let protocols = [
      ["security.protocol": "ssl"], ["security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"],
    ]
    for properties in protocols { #expect(transport(properties).warnings.isEmpty == isDefault) }
    let explicit = ["security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "https"]
    #expect(transport(explicit).warnings == [])
  }
}
