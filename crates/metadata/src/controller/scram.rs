//! SCRAM credentials: set, removed, described (KIP-554, KIP-900). What is kept cannot be turned back into the password (RFC 5802).

use std::collections::BTreeMap;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use milena_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use milena_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use milena_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};
use milena_protocol::stored::metadata::{MetadataRecord, RemoveUserScramCredentialRecord, UserScramCredentialRecord};
use sha2::{Digest, Sha256, Sha512};

use super::{ApiError, Cx, Decision};
use crate::image::MetadataImage;
use crate::versions::gates;

const SHA_256: i8 = 1;
const SHA_512: i8 = 2;
/// As many iterations as Kafka takes at least, with either mechanism, and at most.
const MIN_ITERATIONS: i32 = 4096;
const MAX_ITERATIONS: i32 = 16384;

/// A user may be named once; errors are per user.
pub(crate) fn alter(
    cx: &mut Cx<'_>,
    request: &AlterUserScramCredentialsRequest,
) -> Decision<AlterUserScramCredentialsResponse> {
    let mut users: Vec<&str> = Vec::new();
    let mut verdicts: BTreeMap<&str, Result<MetadataRecord, ApiError>> = BTreeMap::new();
    let deletions = request.deletions.iter().map(|d| (d.name.as_str(), check_deletion(cx.image, d)));
    let upsertions = request.upsertions.iter().map(|u| (u.name.as_str(), check_upsertion(cx.image, u)));
    for (user, verdict) in deletions.chain(upsertions) {
        match verdicts.get_mut(user) {
            None => {
                users.push(user);
                verdicts.insert(user, verdict);
            }
            // the first error stands
            Some(Err(_)) => {}
            Some(before) => {
                let message = "A user credential cannot be altered twice in the same request";
                *before = Err(ApiError::new(ErrorCode::DuplicateResource, message));
            }
        }
    }
    let mut records = Vec::new();
    let mut results = Vec::new();
    for user in users {
        let (error_code, error_message) = match verdicts.remove(user) {
            Some(Err(error)) => (error.code.code(), error.message),
            Some(Ok(record)) => {
                records.push(record);
                (0, None)
            }
            None => continue,
        };
        let user = user.to_owned();
        results.push(AlterUserScramCredentialsResult { user, error_code, error_message });
    }
    Ok(Outcome::new(records, AlterUserScramCredentialsResponse { results, ..Default::default() }))
}

fn check(image: &MetadataImage, name: &str, mechanism: i8) -> Result<(), ApiError> {
    if image.features.metadata_version < gates::SCRAM {
        let message = "The current metadata version does not support SCRAM";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    if name.is_empty() {
        return Err(ApiError::new(ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    if ![SHA_256, SHA_512].contains(&mechanism) {
        return Err(ApiError::new(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"));
    }
    Ok(())
}

fn check_deletion(image: &MetadataImage, asked: &ScramCredentialDeletion) -> Result<MetadataRecord, ApiError> {
    check(image, &asked.name, asked.mechanism)?;
    if !image.scram.credentials.contains_key(&(asked.mechanism, asked.name.clone())) {
        let message = "Attempt to delete a user credential that does not exist";
        return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
    }
    let (name, mechanism) = (asked.name.clone(), asked.mechanism);
    Ok(MetadataRecord::RemoveUserScramCredential(RemoveUserScramCredentialRecord { name, mechanism }))
}

fn check_upsertion(image: &MetadataImage, asked: &ScramCredentialUpsertion) -> Result<MetadataRecord, ApiError> {
    check(image, &asked.name, asked.mechanism)?;
    let unacceptable = |message: &str| Err(ApiError::new(ErrorCode::UnacceptableCredential, message));
    if asked.iterations < MIN_ITERATIONS {
        return unacceptable("Too few iterations");
    }
    if asked.iterations > MAX_ITERATIONS {
        return unacceptable("Too many iterations");
    }
    if asked.salted_password.is_empty() {
        // Kafka's library takes no empty key and stumbles
        return Err(ErrorCode::UnknownServerError.into());
    }
    let (stored_key, server_key) = if asked.mechanism == SHA_256 {
        let hmac = |text: &str| keyed::<Hmac<Sha256>>(&asked.salted_password, text);
        (Sha256::digest(hmac("Client Key")).to_vec(), hmac("Server Key"))
    } else {
        let hmac = |text: &str| keyed::<Hmac<Sha512>>(&asked.salted_password, text);
        (Sha512::digest(hmac("Client Key")).to_vec(), hmac("Server Key"))
    };
    Ok(MetadataRecord::UserScramCredential(UserScramCredentialRecord {
        name: asked.name.clone(),
        mechanism: asked.mechanism,
        salt: Bytes::copy_from_slice(&asked.salt),
        stored_key: stored_key.into(),
        server_key: server_key.into(),
        iterations: asked.iterations,
    }))
}

fn keyed<M: Mac + hmac::digest::KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
    // a key of any length is taken: longer ones are hashed
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Mechanisms and iterations of the users that are named, or of all. Never a key.
pub(crate) fn describe(
    image: &MetadataImage,
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let mut known: BTreeMap<&str, Vec<CredentialInfo>> = BTreeMap::new();
    for ((mechanism, user), credential) in &image.scram.credentials {
        let (mechanism, iterations) = (*mechanism, credential.iterations);
        known.entry(user).or_default().push(CredentialInfo { mechanism, iterations });
    }
    let named: Vec<&str> = request.users.iter().flatten().map(|user| user.name.as_str()).collect();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    if named.is_empty() {
        times = known.keys().map(|user| (*user, 1)).collect();
    }
    for user in named {
        *times.entry(user).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| {
        let (code, message, credential_infos) = match known.remove(user) {
            _ if times > 1 => (
                ErrorCode::DuplicateResource,
                format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}"),
                Vec::new(),
            ),
            None => (
                ErrorCode::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {user}"),
                Vec::new(),
            ),
            Some(infos) => (ErrorCode::None, String::new(), infos),
        };
        DescribeUserScramCredentialsResult {
            user: user.to_owned(),
            error_code: code.code(),
            error_message: Some(message),
            credential_infos,
        }
    });
    DescribeUserScramCredentialsResponse { results: results.collect(), ..Default::default() }
}
