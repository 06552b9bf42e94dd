// Which names of the host a request to the admin server may use: a page of a stranger may not.
import Testing

@testable import outboxd

@Suite struct AdminHostsTests {
  @Test(
    arguments: [
      ("localhost", true), ("LOCALHOST:9464", true), ("localhost.", true), ("127.0.0.1", true),
      ("127.0.0.1:9464", true), ("127.8.7.6", true), ("[::1]", true), ("[::1]:9464", true),
      ("evil.example", false), ("evil.example:9464", false), ("127.0.0.1.evil.example", false),
      ("localhost.evil.example", false), ("192.0.2.7", false), ("", false), ("/", false), ("@", false),
      ("[::1", false), ("::1]", false), ("127.0.0.1:9464:80", false), ("127.0.0", false),
      ("127.0.0.1@evil", false),
      ("evil@127.0.0.1", false), ("127.0.0.+1", false), ("127.0.0.256", false),
    ])
  func `on a loopback address only its names are answered`(host: String, isAdmitted: Bool) {
    for address in ["127.0.0.1:9464", "[::1]:1"] {
      #expect(AdminHosts([], listeningOn: address).admits(host) == isAdmitted)
      #expect(AdminHosts(["proxy.example"], listeningOn: address).admits(host) == isAdmitted)
    }
    #expect(AdminHosts(["proxy.example"], listeningOn: "127.0.0.1:9464").admits("Proxy.Example:443"))
  }

  @Test func `elsewhere any name is answered, or those of admin hosts alone`() {
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:9464"] {
      #expect(AdminHosts([], listeningOn: address).admits("evil.example"))
      let named = AdminHosts(["outboxd.example", "[2001:db8::1]"], listeningOn: address)
      #expect(named.admits("outboxd.example:9464"))
      #expect(named.admits("[2001:DB8::1]:9464"))
      #expect(!named.admits("evil.example"))
      #expect(!named.admits("1.2.3.4.example"))
      // Probes of Kubernetes, and whoever asks from within the container.
      #expect(named.admits("10.1.2.3:9464") && named.admits("[fd00::1]") && named.admits("localhost:9464"))
    }
    #expect(AdminHosts([], configured: "myhost", listeningOn: "127.0.1.1:9464").admits("MyHost:9464"))
  }

  @Test func `a request without Host, which no browser sends, is answered`() {
    #expect(AdminHosts([], listeningOn: "127.0.0.1:9464").admits(nil))
    #expect(AdminHosts(["x"], listeningOn: "0.0.0.0:9464").admits(nil))
  }
}
