"""What the SDK has and the backend does not serve yet.

By operation: the status of the refusal, 405 where other methods of the path are served, and the
body that the SDK sends. Whoever adds one to the backend removes it here and drives it in
`test_v2.py` or `test_v3.py`, which ask for every operation that is not here.
"""

from __future__ import annotations

from typing import Any

from tests.interop.sdk.customer import date, model

DEVICES = ["350000000000000"]
URL = "https://127.0.0.1/listener"

DAYS = {
    "start_date": date("2030-01-01"),
    "end_date": date("2030-01-07"),
}

NOT_SERVED: dict[str, tuple[int, dict[str, Any] | None]] = {
    "campaigns_v2.update_campaign_dates": (404, model("V2ChangeCampaignDatesRequest", **DAYS)),
    "campaigns_v2.update_campaign_firmware_devices": (
        405,
        model("V2AddOrRemoveDeviceRequest", mtype="append", device_list=DEVICES),
    ),
    "software_management_callbacks_v2.deregister_callback": (404, None),
    "software_management_callbacks_v2.list_registered_callbacks": (404, None),
    "software_management_callbacks_v2.register_callback": (
        404,
        model("FotaV2CallbackRegistrationRequest", url=URL),
    ),
    "software_management_callbacks_v2.update_callback": (
        404,
        model("FotaV2CallbackRegistrationRequest", url=URL),
    ),
    "software_management_licenses_v2.assign_licenses_to_devices": (
        404,
        model("V2LicenseIMEI", device_list=DEVICES),
    ),
    "software_management_licenses_v2.create_list_of_licenses_to_remove": (
        404,
        model("V2ListOfLicensesToRemoveRequest", device_list=DEVICES),
    ),
    "software_management_licenses_v2.delete_list_of_licenses_to_remove": (404, None),
    "software_management_licenses_v2.get_account_license_status": (404, None),
    "software_management_licenses_v2.list_licenses_to_remove": (404, None),
    "software_management_licenses_v2.remove_licenses_from_devices": (
        404,
        model("V2LicenseIMEI", device_list=DEVICES),
    ),
    "software_management_reports_v2.get_device_firmware_upgrade_history": (404, None),
    "software_management_reports_v2.list_account_devices": (404, None),
    "software_management_subscriptions_v2.get_account_subscription_status": (404, None),
    "account_devices.list_account_devices_information": (
        405,
        model("DeviceIMEI", device_list=DEVICES),
    ),
    "campaigns_v3.update_campaign_dates": (404, model("V3ChangeCampaignDatesRequest", **DAYS)),
    "campaigns_v3.update_campaign_firmware_devices": (
        404,
        model("V3AddOrRemoveDeviceRequest", mtype="append", device_list=DEVICES),
    ),
    "firmware_v3.report_device_firmware": (404, None),
    "firmware_v3.synchronize_device_firmware": (404, model("FirmwareIMEI", device_list=DEVICES)),
    "software_management_callbacks_v3.deregister_callback": (404, None),
    "software_management_callbacks_v3.list_registered_callbacks": (404, None),
    "software_management_callbacks_v3.register_callback": (
        404,
        model("FotaV3CallbackRegistrationRequest", url=URL),
    ),
    "software_management_callbacks_v3.update_callback": (
        404,
        model("FotaV3CallbackRegistrationRequest", url=URL),
    ),
    "software_management_licenses_v3.assign_licenses_to_devices": (
        404,
        model("V3LicenseIMEI", device_list=DEVICES),
    ),
    "software_management_licenses_v3.get_account_licenses_status": (404, None),
    "software_management_licenses_v3.remove_licenses_from_devices": (
        404,
        model("V3LicenseIMEI", device_list=DEVICES),
    ),
    "software_management_subscriptions_v3.get_account_subscription_status": (404, None),
}
