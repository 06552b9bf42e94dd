// Owns: which columns of a table the stream has, and what a mapping goes without because of that. Pure.
// Must not know: how the facts were read.
public import RelayCore

extension TableFacts.Column {
  var columnType: ColumnType {
    ColumnType.builtIn(oid: typeOID) ?? (typeName == "citext" ? .text : .other(oid: typeOID, name: typeName))
  }
}

extension TableFacts {
  /// The shape of all its columns.
  public var relation: Relation { relation(of: columns) }

  func relation(of columns: [Column]) -> Relation {
    Relation(
      id: 0, schema: schema, table: name,
      columns: columns.map { Relation.Column(name: $0.name, type: $0.columnType) })
  }
}

extension PublicationFacts {
  /// Whether the stream has the column. Generated ones only where a column list names them, or from 18 on where the
  /// publication says so, and never virtual ones.
  func publishes(_ column: TableFacts.Column, of table: TableFacts) -> Bool {
    publishes(
      column.name, generated: column.generated,
      of: tables.first { $0.origin == table.origin })
  }

  func publishes(_ column: String, generated: String, of member: Table?) -> Bool {
    if let listed = member?.columns { return listed.contains(column) }
    return generated.isEmpty || (generated == "s" && publishesGenerated)
  }
}

extension ServerFacts {
  /// The shape that the stream gives the table of an outbox. Nil where there is no such table.
  public func published(_ mapping: OutboxMapping) -> Relation? {
    guard let table = table(mapping.schema, mapping.table) else { return nil }
    guard let publication else { return table.relation }
    return table.relation(of: table.columns.filter { publication.publishes($0, of: table) })
  }
}

extension PublicationCheck {
  /// A column that a mapping would use if the stream had it.
  struct MissingColumn {
    var column: TableFacts.Column
    var part: String
    var isListed: Bool

    /// `the column "payload" (payload)`.
    var text: String { "the column \"\(column.name)\" (\(part))" }

    /// What becomes of events without it.
    var consequence: String {
      switch part {
      case "time": "their time is that of the commit"
      case "subject": "they have no subject"
      case "headers": "they have none of its attributes and headers"
      case "aggregatetype": "they cannot be selected by it"
      default: "they have no \(part)"
      }
    }
  }

  /// Of each table the columns that the mapping uses, by default or by name, and that the stream does not have.
  func missingColumns(_ mapping: OutboxMapping) -> [MissingColumn] {
    guard let publication,
      let table = table(of: mapping),
      let whole = try? MappingCheck.inspect(mapping, relation: table.relation, database: "database")
    else { return [] }
    let isListed = publication.tables.contains {
      $0.origin == table.origin && $0.columns != nil
    }
    return whole.uses.compactMap { use in
      guard let column = table.columns.first(where: { $0.name == use.column }),
        !publication.publishes(column, of: table)
      else { return nil }
      return MissingColumn(column: column, part: use.part, isListed: isListed)
    }
  }

  /// A mapping that the table would serve, and the published columns do not.
  func columnFault(_ publication: PublicationFacts) -> RelayError? {
    for mapping in mappings {
      guard let table = table(of: mapping),
        let first = missingColumns(mapping).first
      else { continue }
      let published = table.columns.filter { publication.publishes($0, of: table) }
      guard let fault = Self.mappingFault(mapping, table.relation(of: published)) else { continue }
      return RelayError(
        .publicationUnsuitable,
        "publication \"\(name)\" does not publish \(first.text) of \(mapping.qualifiedName), \(reason(first)): "
          + fault.message,
        remedy: publishing(first, mapping) + " Rows that were committed before stay without it.")
    }
    return nil
  }

  /// What events silently go without.
  var columnFindings: [Finding] {
    mappings.flatMap { mapping in
      missingColumns(mapping).map { missing in
        Finding(
          message: "publication \"\(name)\" does not publish \(missing.text) of \(mapping.qualifiedName), "
            + "\(reason(missing)): events go without it, and \(missing.consequence)",
          remedy: "Stop outboxd. " + publishing(missing, mapping)
            + " Or set columns.\(missing.part): none, if it is not needed.")
      }
    }
  }

  private func reason(_ missing: MissingColumn) -> String {
    switch missing.column.generated {
    case _ where missing.isListed: "which its column list leaves out"
    case "v": "which is a virtual generated column"
    default: "which is a generated column"
    }
  }

  private func publishing(_ missing: MissingColumn, _ mapping: OutboxMapping) -> String {
    let quoted = SQLText.identifier(name)
    if missing.isListed {
      return "ALTER PUBLICATION \(quoted) SET TABLE \(tableList); then outboxd recover, and outboxd run."
    }
    if missing.column.generated == "s", publication?.canPublishGenerated == true {
      return
        "ALTER PUBLICATION \(quoted) SET (publish_generated_columns = stored); then outboxd recover, and outboxd run."
    }
    return "Map another column of \(mapping.qualifiedName), or make it a plain one that the writers fill"
      + (missing.column.generated == "s"
        ? " (from PostgreSQL 18 on stored generated columns can be published)." : ".")
  }
}
