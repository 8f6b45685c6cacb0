//! `CREATE FUNCTION f AS 'class'`: a name for a function that tidemill has under the name of a known class.

use tidemill_base::Position;

use super::Name;
use super::cursor::Cursor;
use crate::error::Error;

/// A function named by a class; which classes are known is the planner's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFunction {
    /// The name it gets.
    pub name: Name,
    /// The class, such as `com.github.nexmark.flink.udf.CountChar`.
    pub class: String,
    /// Where the class stands.
    pub class_position: Position,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<CreateFunction, Error> {
    cursor.expect(&["CREATE"])?;
    cursor.take(&["TEMPORARY"]);
    cursor.take(&["SYSTEM"]);
    cursor.expect(&["FUNCTION"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the function's name")?;
    cursor.expect(&["AS"])?;
    let class_position = cursor.position();
    let class = cursor.string("the class, in quotes")?;
    let position = cursor.position();
    if cursor.take(&["LANGUAGE"]) && !(cursor.take(&["JAVA"]) || cursor.take(&["SCALA"])) {
        return Err(Error::Unsupported {
            what: "only classes that tidemill knows can be functions, none of another language".to_string(),
            position,
            help: Some("use the built-in functions, or a view".to_string()),
        });
    }
    if cursor.sees("USING") {
        return Err(Error::Unsupported {
            what: "code from a jar cannot be loaded: there is no Java in tidemill".to_string(),
            position: cursor.position(),
            help: Some("remove USING JAR; known classes are replaced by functions of tidemill's own".to_string()),
        });
    }
    Ok(CreateFunction { name, class, class_position, if_not_exists })
}
