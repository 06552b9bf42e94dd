// Owns: how a connection to Postgres is protected on its way, and what there is to say of it.
// Must not know: which connection it is for, checkpoints.
import CLibpq
import Glibc
public import RelayCore

/// What a connection really uses, wherever it was set: in conninfo, by the environment, a service file or a default.
public struct PostgresTransport: Equatable, Sendable {
  public enum Encryption: Equatable, Sendable {
    case none
    case tls
    /// By Kerberos, which both sides have proven themselves to.
    case gss
  }

  /// As messages name it: a name or address, or the path of a Unix socket.
  public var host: String
  /// The address that was connected to. Empty for a Unix socket.
  public var address: String
  public var encryption: Encryption
  /// `sslmode` of libpq: disable, allow, prefer, require, verify-ca, verify-full.
  public var sslmode: String
  /// There is an authority to verify a certificate by: libpq does so even with `require`.
  public var hasRootCertificate = false
  /// `channel_binding=require`: the server has proven, by its verifier of the password, that it is the other end of TLS.
  public var bindsChannel = false

  public var isLocal: Bool { address.isEmpty || LoopbackAddress.contains(address) }

  /// Nil where the connection stays on the machine, or the server is known for what it is.
  public var warning: Finding? {
    let subject = "the connection to Postgres at \(host)"
    let remedy = "Set sslmode=verify-full, and sslrootcert to the authority's certificate, in the conninfo."
    if isLocal || encryption == .gss { return nil }
    guard encryption == .tls else {
      return Finding(
        message:
          "\(subject) is not encrypted (sslmode=\(sslmode)): anyone on the network path can read and change rows, and anyone "
          + "who poses as the server gets the password", remedy: remedy)
    }
    if bindsChannel { return nil }
    switch sslmode {
    case "verify-full": return nil
    case _ where sslmode == "verify-ca" || (sslmode == "require" && hasRootCertificate):
      return Finding(
        message:
          "\(subject) is encrypted, but the certificate's host is not verified (sslmode=\(sslmode)): any server with a "
          + "certificate of the same authority can pose as this one",
        remedy: "Set sslmode=verify-full in the conninfo.")
    case "require":
      return Finding(
        message:
          "\(subject) is encrypted, but no certificate is verified (sslmode=require): anyone who poses as the server can read "
          + "and change rows, and gets the password", remedy: remedy)
    default:
      return Finding(
        message:
          "\(subject) is encrypted, but sslmode=\(sslmode) neither verifies a certificate nor insists on encryption: "
          + "anyone who poses as the server can read and change rows, and gets the password", remedy: remedy)
    }
  }

  /// What there is to say where there is no warning.
  public var summary: String {
    let how =
      isLocal
      ? "stays on this machine"
      : encryption == .gss
        ? "is encrypted by Kerberos"
        : sslmode == "verify-full"
          ? "is encrypted, and the server's certificate and host are verified"
          : "is encrypted, and the server is verified by channel binding"
    return "the connection to Postgres at \(host) \(how)"
  }
}

extension SQLConnection {
  public var transport: PostgresTransport {
    // SAFETY (all calls): the handle is alive; libpq owns the texts, which are copied.
    let options = PQconninfo(handle)
    defer { PQconninfoFree(options) }
    func value(_ wanted: String) -> String? {
      guard var entry = options else { return nil }
      // SAFETY: the list ends with an entry whose keyword is NULL; no entry after it is read.
      while let keyword = entry.pointee.keyword {
        if strcmp(keyword, wanted) == 0 { return entry.pointee.val.map { String(cString: $0) } }
        entry += 1
      }
      return nil
    }
    return PostgresTransport(
      host: PQhost(handle).map { String(cString: $0) } ?? "",
      address: PQhostaddr(handle).map { String(cString: $0) } ?? "",
      encryption: PQsslInUse(handle) != 0 ? .tls : PQgssEncInUse(handle) != 0 ? .gss : .none,
      sslmode: value("sslmode") ?? "prefer",
      hasRootCertificate: Self.hasRootCertificate(value("sslrootcert")),
      bindsChannel: value("channel_binding") == "require")
  }

  /// libpq looks for the file where none is named, too.
  private static func hasRootCertificate(_ file: String?) -> Bool {
    if let file, !file.isEmpty { return true }
    guard let home = getenv("HOME") else { return false }
    return access(String(cString: home) + "/.postgresql/root.crt", R_OK) == 0
  }
}
