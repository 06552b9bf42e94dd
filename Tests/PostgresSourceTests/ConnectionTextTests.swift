// Owns: what is printed of a conninfo, and how names and texts are quoted.
// Must not know: connections.
import RelayCore
import Testing

@testable import PostgresSource

@Suite struct ConnectionTextTests {
  @Test func passwordsAreNeverPrinted() throws {
    for conninfo in [
      "host=h user=u password=secret dbname='a b' sslpassword=secret", "postgresql://u:secret@h/a?port=1",
    ] {
      let text = try redactedConninfo(conninfo)
      #expect(!text.contains("secret"))
      #expect(text.contains("host=h") && text.contains("password=••••••••"))
    }
    for conninfo in ["host=h password=my secret", "password='secret", "password=a secret=b"] {
      do throws(RelayError) {
        _ = try redactedConninfo(conninfo)
        Issue.record("accepted: \(conninfo)")
      } catch {
        #expect(error.kind == .configurationInvalid)
        #expect(!error.message.contains("secret"), "\(error)")
      }
    }
  }

  @Test func faultsNameTheWordWhereNothingIsSecret() {
    do throws(RelayError) {
      _ = try redactedConninfo("host=h prot=5432")
      Issue.record("accepted")
    } catch {
      #expect(error.message.contains("prot"))
    }
  }

  @Test func theUserComesFromTheConninfo() throws {
    #expect(try conninfoUser("user=relay") == "relay")
    #expect(try conninfoUser("postgresql://relay@h/db") == "relay")
  }

  @Test func namesAndTextsAreQuoted() {
    #expect(SQLText.identifier("a\"b") == "\"a\"\"b\"")
    #expect(SQLText.literal("it's") == "'it''s'")
    #expect(SQLText.literal("a\\'b") == "E'a\\\\''b'")
    #expect(SQLText.dollarQuoted("x $outboxd$ y") == "$outboxd1$x $outboxd$ y$outboxd1$")
  }
}
