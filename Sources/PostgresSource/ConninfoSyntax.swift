// Owns: what the configuration asks about a conninfo before anything connects.
import RelayCore

extension PostgresSettings {
  /// What is wrong with the text, or nil. Quotes no secret.
  /// - Parameter name: where the text comes from.
  public static func conninfoProblem(
    _ conninfo: String, name: String = "postgres.conninfo"
  ) -> (message: String, suggestion: String?)? {
    do throws(RelayError) {
      _ = try ConnectionOption.parse(conninfo, name: name)
      return nil
    } catch {
      return (error.message, error.remedy == ConninfoSecrets.advice ? error.remedy : nil)
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
