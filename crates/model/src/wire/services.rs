//! Services to and from their protobuf messages.

use uuid::Uuid;

use super::generated as wire;
use super::{Wire, WireError, all_from, all_to, required_time, to_timestamp, to_word_or};
use crate::id::{OrganisationKey, RunId};
use crate::service::{
    CallFailure, CallableService, CallableServices, CallableServicesRequest, ServiceCall, ServiceField,
    ServiceInvocation, ServicesInvoked,
};

fn to_uuid(field: &'static str, text: &str) -> Result<Uuid, WireError> {
    Uuid::parse_str(text).map_err(|error| WireError::invalid(field, error))
}

impl Wire for ServicesInvoked {
    type Message = wire::ServicesInvoked;

    fn to_message(&self) -> wire::ServicesInvoked {
        wire::ServicesInvoked {
            run_id: self.run_id.0,
            run_attempt: self.run_attempt,
            organisation: self.organisation.0.clone(),
            at: Some(to_timestamp(self.at)),
            services: all_to(&self.services),
        }
    }

    fn from_message(message: wire::ServicesInvoked) -> Result<Self, WireError> {
        Ok(Self {
            run_id: RunId(message.run_id),
            run_attempt: message.run_attempt,
            organisation: OrganisationKey(message.organisation),
            at: required_time("at", message.at)?,
            services: all_from(message.services)?,
        })
    }
}

impl Wire for ServiceInvocation {
    type Message = wire::ServiceInvocation;

    fn to_message(&self) -> wire::ServiceInvocation {
        wire::ServiceInvocation { service: self.service.to_string(), calls: all_to(&self.calls) }
    }

    fn from_message(message: wire::ServiceInvocation) -> Result<Self, WireError> {
        Ok(Self { service: to_uuid("services.service", &message.service)?, calls: all_from(message.calls)? })
    }
}

impl Wire for ServiceCall {
    type Message = wire::ServiceCall;

    fn to_message(&self) -> wire::ServiceCall {
        wire::ServiceCall {
            succeeded: self.failure.is_none(),
            duration_ms: self.duration_ms,
            failure: self.failure.map(CallFailure::as_str).unwrap_or_default().to_owned(),
        }
    }

    fn from_message(message: wire::ServiceCall) -> Result<Self, WireError> {
        let failure = (!message.succeeded).then(|| to_word_or(&message.failure, CallFailure::Unknown));
        Ok(Self { failure, duration_ms: message.duration_ms })
    }
}

impl Wire for CallableServicesRequest {
    type Message = wire::CallableServicesRequest;

    fn to_message(&self) -> wire::CallableServicesRequest {
        wire::CallableServicesRequest {
            session_token: self.session_token.clone(),
            groups: self.groups.iter().map(Uuid::to_string).collect(),
        }
    }

    fn from_message(message: wire::CallableServicesRequest) -> Result<Self, WireError> {
        let groups = message.groups.iter().map(|group| to_uuid("groups", group)).collect::<Result<_, _>>()?;
        Ok(Self { session_token: message.session_token, groups })
    }
}

impl Wire for CallableServices {
    type Message = wire::CallableServices;

    fn to_message(&self) -> wire::CallableServices {
        wire::CallableServices { services: all_to(&self.services) }
    }

    fn from_message(message: wire::CallableServices) -> Result<Self, WireError> {
        Ok(Self { services: all_from(message.services)? })
    }
}

impl Wire for CallableService {
    type Message = wire::CallableService;

    fn to_message(&self) -> wire::CallableService {
        wire::CallableService {
            id: self.id.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            fields: all_to(&self.fields),
            endpoint: self.endpoint.clone(),
        }
    }

    fn from_message(message: wire::CallableService) -> Result<Self, WireError> {
        Ok(Self {
            id: to_uuid("services.id", &message.id)?,
            name: message.name,
            description: message.description,
            fields: all_from(message.fields)?,
            endpoint: message.endpoint,
        })
    }
}

impl Wire for ServiceField {
    type Message = wire::ServiceField;

    fn to_message(&self) -> wire::ServiceField {
        wire::ServiceField {
            name: self.name.clone(),
            required: self.required,
            field_type: self.field_type.clone(),
            description: self.description.clone(),
        }
    }

    fn from_message(message: wire::ServiceField) -> Result<Self, WireError> {
        let wire::ServiceField { name, required, field_type, description } = message;
        Ok(Self { name, required, field_type, description })
    }
}
