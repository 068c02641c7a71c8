/// The business's own tables, and the YAML that says how they are carried: products to every branch, members home or to
/// every branch, an order with its lines as one record up to the cloud.
public enum RetailTables {
    public enum Side: Sendable { case cloud, branch }

    /// What the applications of one side work on. `effects` counts what is written to tables that only DataSync writes on
    /// that side, so that an effect that came twice is seen although it changed nothing.
    public static func definitions(_ side: Side, isSQLite: Bool) -> [String] {
        let (origin, originKey) = side == .cloud ? ("branch_id int not null, ", "branch_id, ") : ("", "")
        // A sale that brings in less than nothing is a mistake: at the till nobody looks, the cloud does.
        let check = side == .cloud ? ", constraint plausible_total check (total >= 0)" : ""
        let known = side == .cloud ? ", constraint known_product foreign key (product_id) references product (product_id)" : ""
        let engine = isSQLite ? "" : " engine = InnoDB"
        let counter = isSQLite ? "integer primary key autoincrement" : "bigint not null auto_increment primary key"
        let counted = side == .cloud ? [("orders", "new.basket_id")] : [("product", "new.product_id")]
        return [
            """
            create table product (product_id bigint not null primary key, department varchar(40) not null, brand varchar(20) not null, \
            kind varchar(60) not null, package_size varchar(40) not null, price decimal(10,2) not null)\(engine)
            """,
            """
            create table member (household_id bigint not null primary key, age varchar(20), income varchar(20), household_size varchar(10), \
            home_store_id int not null, is_shared tinyint not null)\(engine)
            """,
            """
            create table orders (\(origin)basket_id bigint not null, household_id bigint not null, ordered_at datetime not null, \
            total decimal(10,2) not null, primary key (\(originKey)basket_id)\(check))\(engine)
            """,
            """
            create table order_lines (\(origin)basket_id bigint not null, line int not null, product_id bigint not null, quantity int not null, \
            sales_value decimal(10,2) not null, discount decimal(10,2) not null, primary key (\(originKey)basket_id, line)\(known))\(engine)
            """,
            "create table effects (id \(counter), table_name varchar(20) not null, row_key bigint not null)\(engine)",
        ]
            + counted.flatMap { table, key in
                ["insert", "update"].map { event in
                    let insert = "insert into effects (table_name, row_key) values ('\(table)', \(key))"
                    let body = isSQLite ? "begin \(insert); end" : insert
                    return "create trigger \(table)_\(event) after \(event) on \(table) for each row \(body)"
                }
            }
    }

    /// The `types:` of both programs' configuration.
    public static func types(_ side: Side) -> String {
        let origin = side == .cloud ? "\n        origin: branch_id" : ""
        return """
            types:
              - id: 1
                name: product
                priority: 10
                route: all
                tables:
                  - table: product
                    key: [product_id]
                    columns: [department, brand, kind, package_size, price]
              - id: 2
                name: member
                priority: 20
                route: shared(is_shared)
                tables:
                  - table: member
                    key: [household_id]
                    columns: [age, income, household_size, home_store_id, is_shared]
              - id: 3
                name: order
                priority: 30
                route: origin
                tables:
                  - table: orders
                    key: [basket_id]
                    columns: [household_id, ordered_at, total]\(origin)
                  - table: order_lines
                    as: lines
                    key: [basket_id, line]
                    columns: [product_id, quantity, sales_value, discount]
                    parent_key: {basket_id: basket_id}\(origin)

            """
    }
}
