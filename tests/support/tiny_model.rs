//! Writes TFLite files of a few operators: for tensors that no available model has, and for the quick models.

/// TFLite's file codes of tensor types.
#[derive(Clone, Copy)]
pub enum Type {
    F32 = 0,
    I32 = 2,
    U8 = 3,
    I16 = 7,
    I8 = 9,
}

/// A tensor of the model.
pub struct TensorOf<'a> {
    pub name: &'a str,
    pub dtype: Type,
    pub shape: &'a [i32],
    /// Scale and zero point.
    pub quantization: Option<(f32, i64)>,
}

/// Operators whose output has the shape of their input.
#[derive(Clone, Copy)]
pub enum Operator {
    Dequantize,
    Neg,
    Quantize,
    /// An operator that the runtime does not know.
    Custom(&'static str),
}

/// Writes a model that runs `operator` on its input once for each output.
pub fn write(operator: Operator, input: &TensorOf<'_>, outputs: &[TensorOf<'_>]) -> Vec<u8> {
    let (number, name) = match operator {
        Operator::Dequantize => (6, None),
        Operator::Neg => (59, None),
        Operator::Quantize => (114, None),
        Operator::Custom(name) => (32, Some(name)),
    };
    let mut graph = Graph::default();
    let from = graph.tensor(input);
    for output in outputs {
        let to = graph.tensor(output);
        graph.operators.push(Step {
            number,
            name,
            inputs: vec![from],
            output: to,
            pool: None,
        });
    }
    let outputs: Vec<i32> = graph.operators.iter().map(|step| step.output).collect();
    graph.write(from, &outputs)
}

/// A model under construction. Tensors are identified by their number.
#[derive(Default)]
pub(crate) struct Graph {
    tensors: Vec<Node>,
    buffers: Vec<Node>,
    operators: Vec<Step>,
}

/// An operator of a graph.
struct Step {
    number: u32,
    name: Option<&'static str>,
    inputs: Vec<i32>,
    output: i32,
    /// Side and stride of the pooling window.
    pool: Option<u32>,
}

impl Graph {
    /// Adds a tensor that an operator fills.
    pub(crate) fn tensor(&mut self, tensor: &TensorOf<'_>) -> i32 {
        self.add(tensor, 0)
    }

    /// Adds a tensor of f32 that an operator fills.
    pub(crate) fn floats(&mut self, name: &str, shape: &[i32]) -> i32 {
        let (dtype, quantization) = (Type::F32, None);
        self.tensor(&TensorOf {
            name,
            dtype,
            shape,
            quantization,
        })
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, dtype: Type, shape: &[i32], bytes: Vec<u8>) -> i32 {
        self.buffers
            .push(Node::Table(vec![(0, Value::Node(Node::Bytes(bytes)))]));
        let tensor = TensorOf {
            name: "constant",
            dtype,
            shape,
            quantization: None,
        };
        // Buffer 0 is the empty one.
        self.add(&tensor, u32::try_from(self.buffers.len()).unwrap())
    }

    /// Adds the built-in operator `number`, which fills the tensor `output`.
    pub(crate) fn operator(&mut self, number: u32, inputs: &[i32], output: i32) -> i32 {
        let (name, pool) = (None, None);
        self.operators.push(Step {
            number,
            name,
            inputs: inputs.to_vec(),
            output,
            pool,
        });
        output
    }

    /// Adds average pooling over squares of `side` pixels.
    pub(crate) fn average_pool(&mut self, input: i32, output: i32, side: u32) -> i32 {
        self.operator(1, &[input], output);
        self.operators.last_mut().unwrap().pool = Some(side);
        output
    }

    fn add(&mut self, tensor: &TensorOf<'_>, buffer: u32) -> i32 {
        let mut fields = vec![
            (0, Value::Node(Node::Ints(tensor.shape.to_vec()))),
            (1, Value::Number(tensor.dtype as u32)),
            (2, Value::Number(buffer)),
            (3, Value::Node(Node::Text(tensor.name.to_owned()))),
        ];
        if let Some((scale, zero_point)) = tensor.quantization {
            let scale = i32::from_ne_bytes(scale.to_ne_bytes());
            let quantization = Node::Table(vec![
                (2, Value::Node(Node::Ints(vec![scale]))),
                (3, Value::Node(Node::Longs(vec![zero_point]))),
            ]);
            fields.push((4, Value::Node(quantization)));
        }
        self.tensors.push(Node::Table(fields));
        i32::try_from(self.tensors.len()).unwrap() - 1
    }

    /// The bytes of the file.
    pub(crate) fn write(self, input: i32, outputs: &[i32]) -> Vec<u8> {
        let codes = self.operators.iter().map(|step| {
            let mut code = vec![
                (0, Value::Number(step.number)),
                (2, Value::Number(1)),
                (3, Value::Number(step.number)),
            ];
            code.extend(
                step.name
                    .map(|name| (1, Value::Node(Node::Text(name.to_owned())))),
            );
            Node::Table(code)
        });
        let operators = (0..).zip(&self.operators).map(|(index, step)| {
            let mut fields = vec![
                (0, Value::Number(index)),
                (1, Value::Node(Node::Ints(step.inputs.clone()))),
                (2, Value::Node(Node::Ints(vec![step.output]))),
            ];
            if let Some(side) = step.pool {
                // VALID padding; stride and size in both directions.
                let options = [1, side, side, side, side].map(Value::Number);
                let options = (0..).zip(options).collect();
                fields.push((3, Value::Number(5)));
                fields.push((4, Value::Node(Node::Table(options))));
            }
            Node::Table(fields)
        });
        let codes = codes.collect();
        let graph = Node::Table(vec![
            (1, Value::Node(Node::Ints(vec![input]))),
            (2, Value::Node(Node::Ints(outputs.to_vec()))),
            (3, Value::Node(Node::List(operators.collect()))),
            (0, Value::Node(Node::List(self.tensors))),
        ]);
        let buffers = std::iter::once(Node::Table(vec![])).chain(self.buffers);
        let model = Node::Table(vec![
            (0, Value::Number(3)),
            (1, Value::Node(Node::List(codes))),
            (2, Value::Node(Node::List(vec![graph]))),
            (4, Value::Node(Node::List(buffers.collect()))),
        ]);
        let mut bytes = b"\0\0\0\0TFL3".to_vec();
        let root = put(&mut bytes, &model);
        write_reference(&mut bytes, 0, root);
        bytes
    }
}

/// Parts of a flatbuffer. A table's fields are identified by their slots.
enum Node {
    Table(Vec<(usize, Value)>),
    List(Vec<Node>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Bytes(Vec<u8>),
    Text(String),
}

enum Value {
    Number(u32),
    Node(Node),
}

/// Appends a node and returns its offset.
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
                    write_reference(bytes, start + 4 + 4 * at, child);
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
                write_reference(bytes, start + 4 + 4 * at, child);
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
            // The numbers begin at a multiple of 8, after their length.
            bytes.resize((bytes.len() + 4).next_multiple_of(8) - 4, 0);
            let start = bytes.len();
            bytes.extend(length(numbers.len()));
            bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
            start
        }
        Node::Bytes(content) => {
            // The content begins at a multiple of 16, after its length.
            bytes.resize((bytes.len() + 4).next_multiple_of(16) - 4, 0);
            let start = bytes.len();
            bytes.extend(length(content.len()));
            bytes.extend(content);
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

/// Makes the reference at offset `at` point to the later offset `target`.
fn write_reference(bytes: &mut [u8], at: usize, target: usize) {
    let distance = u32::try_from(target - at).unwrap();
    bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
}
