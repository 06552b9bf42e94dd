// Owns: how the connections to Kafka are protected on their way, and what there is to say of it.
// Must not know: which properties an operator may set.
public import RelayCore

/// What is in force, by the properties or by the linked librdkafka's defaults.
public struct KafkaTransport: Equatable, Sendable {
  /// Every one of `bootstrap.servers` is this machine.
  var isLocal: Bool
  /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
  var securityProtocol: String
  /// The SASL mechanism, in capitals. Nil without SASL.
  var mechanism: String?
  var verifiesCertificate = true
  var verifiesHost = true

  /// Of `SSL://host:9093`, `[::1]:9092` or `host`.
  static func host(of server: Substring) -> String {
    var host = server.firstRange(of: "://").map { server[$0.upperBound...] } ?? server
    while host.first == " " { host.removeFirst() }
    while host.last == " " { host.removeLast() }
    guard let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") else { return String(host) }
    return String(host[..<colon])
  }

  private var isEncrypted: Bool { securityProtocol.hasSuffix("ssl") }

  /// What the login gives away to whoever reads it, or to whoever poses as a broker.
  private var credential: String? {
    switch mechanism {
    case "PLAIN": "the password"
    case "OAUTHBEARER": "the token"
    default: nil
    }
  }

  /// Empty where the brokers are on this machine, or are known for what they are.
  public var warnings: [Finding] {
    if isLocal { return [] }
    guard isEncrypted else {
      let login = credential.map { " \($0) of SASL \(mechanism ?? "") is sent in clear text, and" } ?? ""
      return [
        Finding(
          message:
            "the connections to Kafka are not encrypted (security.protocol=\(securityProtocol)):\(login) anyone on the "
            + "network path can read and change events",
          remedy:
            "Set security.protocol to \(mechanism == nil ? "ssl" : "sasl_ssl") in kafka.properties, and "
            + "ssl.ca.location to the authority's certificate.")
      ]
    }
    let gains = "gets the events" + (credential.map { ", and \($0) of SASL \(mechanism ?? "")" } ?? "")
    if !verifiesCertificate {
      return [
        Finding(
          message:
            "the certificates of Kafka's brokers are not verified (enable.ssl.certificate.verification=false): anyone who poses "
            + "as a broker \(gains)",
          remedy: "Remove that property, and set ssl.ca.location to the authority's certificate.")
      ]
    }
    if !verifiesHost {
      return [
        Finding(
          message:
            "the hosts of Kafka's brokers are not verified (ssl.endpoint.identification.algorithm=none): anyone who has a "
            + "certificate of the same authority and poses as a broker \(gains)",
          remedy: "Set ssl.endpoint.identification.algorithm to https in kafka.properties.")
      ]
    }
    return []
  }

  /// What there is to say where there is no warning.
  public var summary: String {
    isLocal
      ? "the connections to Kafka stay on this machine"
      : "the connections to Kafka are encrypted, and the brokers' certificates and hosts are verified"
  }
}

extension KafkaTransport {
  /// Reads the files of properties that are given as files.
  public init(_ settings: KafkaSettings) {
    func value(_ name: String) -> String { KafkaProperties.valueInForce(name, settings).lowercased() }
    let servers = (KafkaProperties.text(of: "metadata.broker.list", settings) ?? "").split(separator: ",")
    isLocal = !servers.isEmpty && servers.allSatisfy { LoopbackAddress.contains(Self.host(of: $0)) }
    securityProtocol = value("security.protocol")
    mechanism = KafkaProperties.mechanism(settings)
    verifiesCertificate = value("enable.ssl.certificate.verification") != "false"
    verifiesHost = value("ssl.endpoint.identification.algorithm") == "https"
  }
}
