// Owns: what is said of an address that the admin server cannot listen on.
import Glibc
import RelayCore
import Testing

@testable import outboxd

private func failure(_ host: String, _ port: UInt16) -> AdminListener.Failure? {
  do throws(AdminListener.Failure) {
    close(try AdminListener.open(AdminSettings(host: host, port: port)).descriptor)
    return nil
  } catch {
    return error
  }
}

@Suite struct AdminListenerTests {
  @Test func `a port in use, a name and an address that are not here have each their own remedy`() throws {
    let taken = try AdminListener.open(AdminSettings(host: "127.0.0.1", port: 0))
    defer { close(taken.descriptor) }
    let port = try #require(taken.address.split(separator: ":").last.flatMap { UInt16($0) })
    let inUse = try #require(failure("127.0.0.1", port))
    #expect(inUse.mayPass && inUse.error.remedy?.contains("free port") == true, "\(inUse.error)")
    let elsewhere = try #require(failure("192.0.2.1", 0))
    #expect(
      elsewhere.mayPass && elsewhere.error.remedy?.contains("address of this machine") == true,
      "\(elsewhere.error)")
    // The top-level domain is reserved for names that do not resolve (RFC 6761).
    let unknown = try #require(failure("no-such-host.invalid", 0))
    #expect(
      !unknown.mayPass && unknown.error.remedy?.contains("Correct the host") == true, "\(unknown.error)")
    for error in [elsewhere.error, unknown.error] {
      #expect(error.remedy?.contains("free port") == false, "\(error)")
    }
  }
}
