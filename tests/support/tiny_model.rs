//! Writes TFLite files of one operator, for tensors that no model at hand has.

/// TFLite's numbers for types of tensors, as its files have them.
#[derive(Clone, Copy)]
pub enum Type {
    F32 = 0,
    U8 = 3,
    I16 = 7,
    I8 = 9,
}

/// A tensor of the file.
pub struct TensorOf<'a> {
    pub name: &'a str,
    pub dtype: Type,
    pub shape: &'a [i32],
    /// Scale and zero point.
    pub quantisation: Option<(f32, i64)>,
}

/// Operators that turn one tensor into another of its shape.
#[derive(Clone, Copy)]
pub enum Operator {
    Dequantize,
    Neg,
    Quantize,
    /// One that the runtime does not know.
    Custom(&'static str),
}

/// A model that runs `operator` on its input once for each output.
pub fn write(operator: Operator, input: &TensorOf<'_>, outputs: &[TensorOf<'_>]) -> Vec<u8> {
    let tensors = std::iter::once(input).chain(outputs);
    let count = i32::try_from(outputs.len()).unwrap();
    let operators = (1..=count).map(|to| {
        Node::Table(vec![
            (1, Value::Node(Node::Ints(vec![0]))),
            (2, Value::Node(Node::Ints(vec![to]))),
        ])
    });
    let graph = Node::Table(vec![
        (0, Value::Node(Node::List(tensors.map(tensor).collect()))),
        (1, Value::Node(Node::Ints(vec![0]))),
        (2, Value::Node(Node::Ints((1..=count).collect()))),
        (3, Value::Node(Node::List(operators.collect()))),
    ]);
    let (number, name) = match operator {
        Operator::Dequantize => (6, None),
        Operator::Neg => (59, None),
        Operator::Quantize => (114, None),
        Operator::Custom(name) => (32, Some(name)),
    };
    let mut code = vec![
        (0, Value::Number(number)),
        (2, Value::Number(1)),
        (3, Value::Number(number)),
    ];
    code.extend(name.map(|name| (1, Value::Node(Node::Text(name.to_owned())))));
    let code = Node::Table(code);
    let model = Node::Table(vec![
        (0, Value::Number(3)),
        (1, Value::Node(Node::List(vec![code]))),
        (2, Value::Node(Node::List(vec![graph]))),
        (4, Value::Node(Node::List(vec![Node::Table(vec![])]))),
    ]);
    let mut bytes = b"\0\0\0\0TFL3".to_vec();
    let root = put(&mut bytes, &model);
    refer(&mut bytes, 0, root);
    bytes
}

fn tensor(tensor: &TensorOf<'_>) -> Node {
    let mut fields = vec![
        (0, Value::Node(Node::Ints(tensor.shape.to_vec()))),
        (1, Value::Number(tensor.dtype as u32)),
        (3, Value::Node(Node::Text(tensor.name.to_owned()))),
    ];
    if let Some((scale, zero_point)) = tensor.quantisation {
        let scale = i32::from_ne_bytes(scale.to_ne_bytes());
        let quantisation = Node::Table(vec![
            (2, Value::Node(Node::Ints(vec![scale]))),
            (3, Value::Node(Node::Longs(vec![zero_point]))),
        ]);
        fields.push((4, Value::Node(quantisation)));
    }
    Node::Table(fields)
}

/// Parts of a flatbuffer; a table's fields go by their slots.
enum Node {
    Table(Vec<(usize, Value)>),
    List(Vec<Node>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Text(String),
}

enum Value {
    Number(u32),
    Node(Node),
}

/// Writes a node behind what is there and gives its place.
fn put(bytes: &mut Vec<u8>, node: &Node) -> usize {
    let length = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    match node {
        Node::Table(fields) => {
            let slots = fields.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
            let mut head = vec![0_u16; 2 + slots];
            head[0] = u16::try_from(2 * head.len()).unwrap();
            head[1] = u16::try_from(4 + 4 * fields.len()).unwrap();
            for (at, (slot, _)) in fields.iter().enumerate() {
                head[2 + slot] = u16::try_from(4 + 4 * at).unwrap();
            }
            let head_at = bytes.len();
            bytes.extend(head.iter().flat_map(|n| n.to_le_bytes()));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let start = bytes.len();
            bytes.extend(length(start - head_at));
            for (_, value) in fields {
                let number = match value {
                    Value::Number(number) => *number,
                    Value::Node(_) => 0,
                };
                bytes.extend(number.to_le_bytes());
            }
            for (at, (_, value)) in fields.iter().enumerate() {
                if let Value::Node(child) = value {
                    let child = put(bytes, child);
                    refer(bytes, start + 4 + 4 * at, child);
                }
            }
            start
        }
        Node::List(nodes) => {
            let start = bytes.len();
            bytes.extend(length(nodes.len()));
            bytes.resize(bytes.len() + 4 * nodes.len(), 0);
            for (at, child) in nodes.iter().enumerate() {
                let child = put(bytes, child);
                refer(bytes, start + 4 + 4 * at, child);
            }
            start
        }
        Node::Ints(numbers) => {
            let start = bytes.len();
            bytes.extend(length(numbers.len()));
            bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            start
        }
        Node::Longs(numbers) => {
            // The numbers themselves begin at a multiple of 8.
            bytes.resize((bytes.len() + 4).next_multiple_of(8) - 4, 0);
            let start = bytes.len();
            bytes.extend(length(numbers.len()));
            bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            start
        }
        Node::Text(text) => {
            let start = bytes.len();
            bytes.extend(length(text.len()));
            bytes.extend(text.bytes().chain([0]));
            start
        }
    }
}

/// Lets the place `at` point to `target`, further on.
fn refer(bytes: &mut [u8], at: usize, target: usize) {
    let distance = u32::try_from(target - at).unwrap();
    bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
}
