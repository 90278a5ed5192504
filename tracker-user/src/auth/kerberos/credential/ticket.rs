//! A look inside a ticket with the service's key: for the log and for diagnosis, after GSSAPI has had its say.

use std::ffi::{c_uint, c_void};
use std::ptr;

use jiff::Timestamp;

use super::keytab::Keytab;
use super::krb5::{Code, ContextHandle, Data, KeyBlock, LibraryContext};
use crate::auth::kerberos::ap_req::{
    ApReq, Encrypted, TicketPart, USAGE_AUTHENTICATOR, USAGE_TICKET, authenticator_time,
};

/// `krb5_enc_data`
#[repr(C)]
struct EncData {
    magic: i32,
    enctype: i32,
    version: c_uint,
    cipher: Data,
}

#[link(name = "k5crypto")]
unsafe extern "C" {
    fn krb5_c_decrypt(
        context: ContextHandle,
        key: *const KeyBlock,
        usage: i32,
        cipher_state: *const c_void,
        input: *const EncData,
        output: *mut Data,
    ) -> Code;
}

/// What a ticket and its authenticator say inside.
pub(in crate::auth) struct Opened {
    pub(in crate::auth) ticket: TicketPart,
    /// When the client made the token, by its own clock.
    pub(in crate::auth) made: Option<Timestamp>,
}

impl Keytab {
    /// Opens a ticket with whichever key fits; `None` if none does.
    pub(in crate::auth) fn look_into(&self, request: &ApReq<'_>) -> Option<Opened> {
        let open = self.open().ok()?;
        let mut plain = None;
        let _ = open.each(|entry| {
            if plain.is_none() && entry.key.kind == request.ticket.enctype {
                plain = decrypt(open.context(), &entry.key, USAGE_TICKET, &request.ticket);
            }
            Ok(())
        });
        let ticket = TicketPart::parse(&plain?)?;
        let mut secret = ticket.session_key.clone();
        let key = KeyBlock {
            magic: 0,
            kind: ticket.session_enctype,
            length: c_uint::try_from(secret.len()).ok()?,
            contents: secret.as_mut_ptr(),
        };
        let plain = decrypt(open.context(), &key, USAGE_AUTHENTICATOR, &request.authenticator);
        Some(Opened { made: plain.and_then(|plain| authenticator_time(&plain)), ticket })
    }
}

fn decrypt(context: &LibraryContext, key: &KeyBlock, usage: i32, data: &Encrypted<'_>) -> Option<Vec<u8>> {
    // What comes out is never longer than what goes in.
    let mut plain = vec![0_u8; data.cipher.len()];
    let length = c_uint::try_from(plain.len()).ok()?;
    let input = EncData {
        magic: 0,
        enctype: data.enctype,
        version: data.version.unwrap_or(0),
        // The library reads through this pointer and never writes.
        cipher: Data { magic: 0, length, bytes: data.cipher.as_ptr().cast_mut() },
    };
    let mut output = Data { magic: 0, length, bytes: plain.as_mut_ptr() };
    // SAFETY: the context and the key are valid, the input is only read, the output has room for as many bytes as it says,
    // and there is no cipher state.
    let code =
        unsafe { krb5_c_decrypt(context.0, key, usage, ptr::null(), &raw const input, &raw mut output) };
    if code != 0 {
        return None;
    }
    plain.truncate(usize::try_from(output.length).ok()?);
    Some(plain)
}
