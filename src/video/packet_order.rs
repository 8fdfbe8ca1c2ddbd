//! Sends a demuxer's packets to the decoder in the order of an edit list: parts are left out, repeated or exchanged,
//! and some frames are decoded without being shown.

use super::container::Packet;
use gstreamer as gst;
use gstreamer::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum bytes of packets that are kept for later edits.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A mark on a packet. Decoders copy it to the frame that they make of the packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// The frame is not shown.
    Hidden,
    /// The end of the file cuts the packet off.
    CutOff,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Hidden => "timestamp/x-handloom-hidden",
            Self::CutOff => "timestamp/x-handloom-cut-off",
        }
    }

    /// Marks a packet.
    pub(super) fn put(self, packet: &mut gst::Buffer) {
        let mark = gst::Caps::new_empty_simple(self.name());
        let packet = packet.make_mut();
        gst::ReferenceTimestampMeta::add(packet, &mark, gst::ClockTime::ZERO, None);
    }

    /// Whether a frame comes from a marked packet.
    pub(super) fn is_on(self, frame: &gst::BufferRef) -> bool {
        let mut marks = frame.iter_meta::<gst::ReferenceTimestampMeta>();
        marks.any(|mark| {
            let mark = mark.reference().structure(0);
            mark.is_some_and(|mark| mark.name() == self.name())
        })
    }
}

/// Packets that wait for their turn.
struct PacketOrder {
    packets: Arc<[Packet]>,
    /// Index of the next packet to be sent.
    next: usize,
    /// Number of packets that the demuxer has given.
    arrived: u32,
    /// For each sample the index after its last use.
    uses: HashMap<u32, usize>,
    kept: HashMap<u32, gst::Buffer>,
    kept_bytes: usize,
}

impl PacketOrder {
    fn new(packets: Arc<[Packet]>) -> Self {
        let uses = (1..)
            .zip(packets.iter())
            .map(|(n, packet)| (packet.sample, n));
        Self {
            next: 0,
            arrived: 0,
            uses: uses.collect(),
            kept: HashMap::new(),
            kept_bytes: 0,
            packets,
        }
    }

    /// Takes the demuxer's next packet and sends all packets that are ready.
    fn arrive(
        &mut self,
        packet: gst::Buffer,
        on_jump: impl Fn(&gst::BufferRef),
        send: impl Fn(gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let number = self.arrived;
        self.arrived = number.saturating_add(1);
        if self.uses.contains_key(&number) {
            self.kept_bytes += packet.size();
            self.kept.insert(number, packet);
        }
        while let Some(&Packet { sample, is_shown }) = self.packets.get(self.next) {
            let Some(kept) = self.kept.get(&sample) else {
                break;
            };
            let mut packet = kept.clone();
            let before = self.next.checked_sub(1).map(|n| self.packets[n].sample);
            if sample != before.map_or(0, |n| n.saturating_add(1)) {
                on_jump(&packet);
            }
            self.next += 1;
            if self
                .uses
                .get(&sample)
                .is_some_and(|last| *last <= self.next)
            {
                self.kept_bytes = self.kept_bytes.saturating_sub(packet.size());
                self.kept.remove(&sample);
            }
            if !is_shown {
                Mark::Hidden.put(&mut packet);
            }
            send(packet)?;
        }
        if self.next >= self.packets.len() {
            return Err(gst::FlowError::Eos);
        }
        if self.kept_bytes > KEPT_BYTES_MAX {
            return Err(gst::FlowError::NotSupported);
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Reorders the packets that leave `output` by `packets`. Calls `on_jump` with each packet that does not follow the
/// one before it in the file.
pub(super) fn follow(
    output: &gst::Pad,
    packets: Arc<[Packet]>,
    on_jump: impl Fn(&gst::BufferRef) + Send + Sync + 'static,
) {
    let order = Mutex::new(PacketOrder::new(packets));
    output.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let (Some(gst::PadProbeData::Buffer(packet)), Some(next)) = (info.data.take(), pad.peer())
        else {
            return gst::PadProbeReturn::Ok;
        };
        let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
        info.flow_res = order.arrive(packet, &on_jump, |packet| next.chain(packet));
        gst::PadProbeReturn::Handled
    });
}
