// Owns: the reason why a broker's certificate is not accepted, which librdkafka's own error leaves out.
// Must not know: anything else. It never accepts what OpenSSL refuses.
import CRdkafka
import Glibc

enum CertificateReason {
  /// The facility of the log line that carries the reason.
  static let logFacility = "CERTVERIFY"

  /// Only adds a text: a certificate is accepted if and only if OpenSSL accepts it.
  static func install(in configuration: OpaquePointer) {
    // A build without TLS refuses; then there are no certificates.
    _ = rd_kafka_conf_set_ssl_cert_verify_cb(configuration, explainCertificate)
  }

  /// OpenSSL's `X509_V_ERR_*`, stable since 1.0.
  static func text(code: Int32) -> String {
    switch code {
    case 9: "the broker's certificate is not valid yet (check this machine's clock)"
    case 10: "the broker's certificate has expired"
    case 18, 19:
      "the broker's certificate is self-signed, or signed by a CA that ssl.ca.location does not hold"
    case 2, 20, 21: "the broker's certificate is signed by a CA that ssl.ca.location does not hold"
    case 23: "the broker's certificate was revoked"
    case 62, 64: "the broker's certificate is for another host name than the one connected to"
    default: "the broker's certificate is not accepted (OpenSSL's verify error \(code))"
    }
  }
}

/// Called on librdkafka's threads, so it touches nothing but its arguments.
private func explainCertificate(
  _ client: OpaquePointer?, _ brokerName: UnsafePointer<CChar>?, _ brokerID: Int32,
  _ code: UnsafeMutablePointer<Int32>?, _ depth: Int32, _ certificate: UnsafePointer<CChar>?,
  _ certificateSize: Int, _ text: UnsafeMutablePointer<CChar>?, _ textSize: Int,
  _ opaque: UnsafeMutableRawPointer?
) -> Int32 {
  // SAFETY: librdkafka passes the address of OpenSSL's verdict, alive during the call.
  guard let code, code.pointee == 0 else {
    if let code, let text, textSize > 0 {
      let reason = CertificateReason.text(code: code.pointee).utf8.prefix(textSize - 1)
      for (index, byte) in reason.enumerated() {
        // SAFETY: `index` is below `textSize - 1`, the room that librdkafka gives less the NUL.
        text[index] = CChar(bitPattern: byte)
      }
      text[reason.count] = 0
    }
    return 0
  }
  return 1
}
