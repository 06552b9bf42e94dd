// Owns: what the configuration asks about a conninfo before anything connects.
import RelayCore

extension PostgresSettings {
  /// What is wrong with the text, or nil. Quotes no secret.
  public static func conninfoProblem(_ conninfo: String) -> String? {
    do throws(RelayError) {
      _ = try ConnectionOption.parse(conninfo)
      return nil
    } catch {
      return error.message
    }
  }

  /// Whether the text itself holds the password. False where libpq cannot read it.
  public static func conninfoHasPassword(_ conninfo: String) -> Bool {
    do throws(RelayError) {
      return try ConnectionOption.parse(conninfo).contains { $0.keyword == "password" && $0.value != nil }
    } catch {
      return false
    }
  }
}
